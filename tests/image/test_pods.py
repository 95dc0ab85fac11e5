"""The chart's pods do their work: read-only, without any capability, with no network but loopback."""

import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from devkit.run.broker import Broker
from tests.amqp import outside_channel, put, take
from tests.helm.release import Release, at
from tests.image.conftest import Node, Rendered
from tests.image.kubelet import Kubelet, publish

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

PATIENCE = 120.0
PAUSE = 0.1
SLOW = at("simulator.extraArgs", ["--size=8MiB", "--bandwidth=512KiB"])
"""Files of about sixteen seconds, written in parts: one of 1 MiB has its temporary name for a moment only."""


def probe(release: Release, kind: str) -> tuple[int, str]:
    """Calls a probe of the worker as the kubelet does; 0 while nobody answers."""
    path = release.worker[kind]["httpGet"]["path"]
    port = release.worker["ports"][0]["containerPort"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()
    except OSError:
        return 0, ""


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that shows only to those who look."""
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(PAUSE)


async def start_workers(release: Release, kubelet: Kubelet) -> Any:
    """Starts the simulator and a worker; gives the worker's container once it takes jobs."""
    simulator = release.one("Deployment", "-simulator")["spec"]["template"]["spec"]
    await asyncio.to_thread(kubelet.start, simulator, "simulator")
    started = await asyncio.to_thread(kubelet.start, release.pod["spec"], "worker")
    await until(lambda: probe(release, "readinessProbe")[0] == 200)
    return started["worker"]


async def submit(broker: Broker, release: Release, file: str) -> None:
    """Publishes a job of the trial's account."""
    body = json.dumps({"appId": "app1", "billFileName": file}).encode()
    async with outside_channel(broker.url) as channel:
        await put(channel, release.env["WORKER_AMQP__JOBS_QUEUE"], body)


async def outcome(broker: Broker, release: Release) -> dict[str, Any]:
    """Waits for the next outcome."""
    async with outside_channel(broker.url) as channel, asyncio.timeout(PATIENCE):
        message = await take(channel, release.env["WORKER_AMQP__RESULTS_QUEUE"])
    body: dict[str, Any] = json.loads(message.body)
    return body


async def test_a_job_goes_through(rabbitmq: Broker, rendered: Rendered, node: Node) -> None:
    release = rendered()
    kubelet = node(release)
    await start_workers(release, kubelet)

    await submit(rabbitmq, release, "20260131_a.zip")

    told = await outcome(rabbitmq, release)
    file = kubelet.volume("worker", "storage") / told["path"]
    assert (told["status"], file.stat().st_size) == ("completed", told["sizeBytes"])
    assert (file.stat().st_uid, file.stat().st_gid) == (10001, 10001)


async def test_sigterm_lets_a_download_finish_and_takes_no_more(
    rabbitmq: Broker, rendered: Rendered, node: Node
) -> None:
    release = rendered(SLOW)
    kubelet = node(release)
    worker = await start_workers(release, kubelet)
    storage = kubelet.volume("worker", "storage")
    await submit(rabbitmq, release, "20260131_slow.zip")
    await until(lambda: any(storage.glob("*/*/.*.part")))

    worker.signal(signal.SIGTERM)

    await until(lambda: "draining" in probe(release, "readinessProbe")[1])
    assert probe(release, "readinessProbe")[0] == 503
    assert probe(release, "livenessProbe")[0] == 200
    assert any(storage.glob("*/*/.*.part"))
    assert await asyncio.to_thread(worker.wait) == 0
    assert (await outcome(rabbitmq, release))["status"] == "completed"


async def test_sigterm_ends_a_worker_that_is_only_just_starting(rendered: Rendered, node: Node) -> None:
    release = rendered()
    worker = node(release).start(release.pod["spec"], "worker")["worker"]

    worker.signal(signal.SIGTERM)

    assert await asyncio.to_thread(worker.wait) in {0, 128 + signal.SIGTERM}


async def test_a_changed_key_reaches_a_running_worker(
    rabbitmq: Broker, rendered: Rendered, node: Node
) -> None:
    release = rendered(at("config.accounts.holdAtMost", 0))
    kubelet = node(release)
    await start_workers(release, kubelet)
    accounts = kubelet.volume("worker", "accounts")
    right = (accounts / "app1").read_bytes()
    publish(accounts, {"app1": b"wrong"})
    await submit(rabbitmq, release, "20260131_a.zip")
    assert (await outcome(rabbitmq, release))["errorCode"] == "UNAUTHORIZED"

    publish(accounts, {"app1": right})
    await submit(rabbitmq, release, "20260131_a.zip")

    assert (await outcome(rabbitmq, release))["status"] == "completed"


async def test_a_worker_without_a_broker_is_alive_and_not_ready(rendered: Rendered, node: Node) -> None:
    release = rendered(at("broker.url", "amqp://127.0.0.1:1/"))
    node(release).start(release.pod["spec"], "worker")

    await until(lambda: probe(release, "livenessProbe")[0] == 200)
    status, checks = probe(release, "readinessProbe")
    assert (status, json.loads(checks)["checks"]["broker"]["status"]) == (503, "unavailable")


async def test_helm_test_sees_a_job_through(rendered: Rendered, node: Node) -> None:
    release = rendered()
    kubelet = node(release)
    await start_workers(release, kubelet)
    (pod,) = release.all("Pod")

    started = await asyncio.to_thread(kubelet.start, pod["spec"], "test")

    assert await asyncio.to_thread(started["submit"].wait) == 0, started["submit"].log
    assert "1 completed, 0 failed" in started["submit"].log
    assert "✓ CC-FS: http://cdr-ccfs-worker-simulator:8443 answers" in started["check"].log


def test_unwritable_storage_is_reported_before_the_start(rendered: Rendered, node: Node) -> None:
    read_only = {"emptyDir": {"enabled": False}, "volume": {"configMap": {"name": "read-only"}}}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "read-only"}, "data": {}}
    release = rendered({"storage": read_only, "extraObjects": [config_map]})

    with pytest.raises(AssertionError, match="/data cannot be written to by user 10001"):
        node(release).start(release.pod["spec"], "worker")
