"""Simulator and worker of docker-compose.yaml, run by podman; the test's broker stands for its own."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit import ROOT
from devkit.run.broker import Broker
from devkit.run.image import IMAGE, Podman

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
PATIENCE = 90.0
Start = Callable[[str], None]
Exec = Callable[..., str]

pytestmark = pytest.mark.image


@pytest.fixture
def inside(podman: Podman, tmp_path: Path) -> Exec:
    """Runs a command in a service's container, and gives what it printed."""
    return lambda service, *words: podman("exec", f"{tmp_path.name}-{service}", *words)


@pytest.fixture
def start(podman: Podman, tmp_path: Path, rabbitmq: Broker) -> Iterator[Start]:
    """Starts a service; its container and all volumes end with the test."""
    for name, volume in COMPOSE["volumes"].items():
        options = (f"--opt={key}={value}" for key, value in volume["driver_opts"].items())
        podman("volume", "create", *options, f"{tmp_path.name}-{name}")
    started: list[str] = []

    def run(name: str) -> None:
        service = COMPOSE["services"][name]
        started.append(f"{tmp_path.name}-{name}")
        variables = service.get("environment", {})
        broker = {"WORKER_AMQP__URL": rabbitmq.url} if variables else {}
        words = podman.run(
            "--detach",
            f"--name={started[-1]}",
            "--network=host",
            "--add-host=simulator:127.0.0.1",
            "--read-only",
            "--cap-drop=all",
            *(f"--env={key}={value}" for key, value in (variables | broker).items()),
            *(f"--volume={tmp_path.name}-{volume}" for volume in service["volumes"]),
            IMAGE,
            *service.get("command", ()),
        )
        subprocess.run(words, check=True, capture_output=True)

    yield run
    for container in started:
        podman("rm", "--force", "--time=0", container)
    podman("volume", "rm", *(f"{tmp_path.name}-{name}" for name in COMPOSE["volumes"]))


def test_a_job_of_the_trial_ends_in_its_file(start: Start, inside: Exec) -> None:
    """Each service starts once those before it are healthy, by the file's own health checks."""
    for service in ("simulator", "worker"):
        start(service)
        until_healthy(inside, service)

    printed = inside("worker", "ccfs-worker", "submit", "app1", "20260131_abc123.zip", "--wait")

    assert "✓ app1/20260131/20260131_abc123.zip" in printed
    assert inside("worker", "ls", "/data/app1/20260131") == "20260131_abc123.zip"


def until_healthy(inside: Exec, service: str) -> None:
    """Waits until the health check of a service passes."""
    _, *check = COMPOSE["services"][service]["healthcheck"]["test"]
    end = time.monotonic() + PATIENCE
    while True:
        try:
            inside(service, *check)
        except RuntimeError:
            assert time.monotonic() < end, f"{service} is not healthy"
            time.sleep(0.2)
        else:
            return
