"""Looking at a broker: everything is found out, and nothing is changed by it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from devkit.run.broker import Broker
from tests.amqp import put, take
from tests.broker.breaking import open_leaderless
from worker.broker import BrokerOptions, Names, Topology
from worker.broker.connection import open_connection
from worker.broker.inspection import inspect, version
from worker.finding import Finding

Grant = Callable[[str, str, str], str]


async def look(url: str, topology: Topology, *, declares: bool = True) -> dict[str, Finding]:
    async with open_connection(url, name="test", heartbeat=10, timeout=10, tls=None) as opened:
        findings = await inspect(opened, topology, declares=declares, timeout=10)
    return {finding.name: finding for finding in findings}


@pytest.fixture
def grant(rabbitmq: Broker, prefix: str) -> Grant:
    """Makes a login with these configure, write and read permissions, and gives its URL."""
    node = rabbitmq.node
    if node is None:
        pytest.skip("needs a broker whose users we may change")

    def make(configure: str, write: str, read: str) -> str:
        node.rabbitmqctl("add_user", prefix, "secret")
        node.rabbitmqctl("set_permissions", prefix, configure, write, read)
        return rabbitmq.url.replace("guest:guest", f"{prefix}:secret")

    return make


@pytest.mark.usefixtures("declared")
async def test_all_is_well_after_declaring(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, b"kept")

    findings = await look(rabbitmq.url, options.topology, declares=False)

    assert [name for name, finding in findings.items() if not finding.ok] == []
    assert findings[f"queue {names.jobs}"].detail == "messages ready: 1, consumers: 0"
    assert findings[f"permission to consume from {names.jobs}"].detail == "granted"
    kept = await take(outside, names.jobs)
    assert (kept.body, kept.redelivered, kept.headers.get("x-delivery-count", 0)) == (b"kept", False, 0)
    assert names.results_queue
    assert (
        await outside.declare_queue(names.results_queue, passive=True)
    ).declaration_result.message_count == 0


@pytest.mark.usefixtures("declared")
async def test_zeros_of_a_leader_that_does_not_answer_are_unknown(
    options: BrokerOptions, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By way of a fake: the single node of a test cannot lose a leader."""
    monkeypatch.setattr("worker.broker.topology._LEADER_WAIT", 0.0)
    async with open_leaderless(options.url, names.jobs) as line:
        line.is_out = True
        finding = (await look(line.url, options.topology))[f"queue {names.jobs}"]

    assert not finding.ok
    assert finding.detail.startswith("messages and consumers unknown: its leader does not answer")
    assert "majority" in finding.remedy


async def test_what_is_missing_is_fine_only_if_the_worker_declares_it(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    would = await look(rabbitmq.url, options.topology, declares=True)
    would_not = await look(rabbitmq.url, options.topology, declares=False)

    assert all(finding.ok for finding in would.values())
    assert "the worker declares it" in would[f"queue {names.jobs}"].detail
    assert would_not[f"queue {names.jobs}"].detail == "does not exist"
    assert "WORKER_AMQP__DECLARE" in would_not[f"queue {names.jobs}"].remedy
    with pytest.raises(ChannelNotFoundEntity):
        await outside.declare_queue(names.jobs, passive=True)


@pytest.mark.usefixtures("declared")
async def test_another_number_of_failed_jobs_is_told_and_is_no_fault(
    rabbitmq: Broker, options: BrokerOptions, names: Names
) -> None:
    findings = await look(rabbitmq.url, replace(options.topology, failed_keep=4))

    finding = findings[f"queue {names.failed}"]
    assert finding.ok
    assert "x-max-length" in finding.detail
    assert "delete it" in finding.detail


@pytest.mark.usefixtures("declared")
async def test_a_queue_with_other_arguments_is_named_with_both(
    rabbitmq: Broker, options: BrokerOptions, names: Names
) -> None:
    findings = await look(rabbitmq.url, replace(options.topology, delivery_limit=4))

    (different,) = (finding for finding in findings.values() if not finding.ok)
    assert different.name == f"queue {names.jobs}"
    assert "x-delivery-limit" in different.detail
    assert different.remedy


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("granted", "refused"),
    [
        (("^$", ".*", ".*"), "queue {jobs}"),
        ((".*", "^$", ".*"), "permission to publish to {results}"),
        ((".*", ".*", "^$"), "permission to consume from {jobs}"),
    ],
)
async def test_each_permission_that_lacks_is_named(
    options: BrokerOptions,
    names: Names,
    grant: Grant,
    granted: tuple[str, str, str],
    refused: str,
) -> None:
    findings = await look(grant(*granted), options.topology)

    found = findings[refused.format(jobs=names.jobs, results=names.results)]
    assert not found.ok
    assert "grant the login the" in found.remedy


@pytest.mark.usefixtures("declared")
async def test_a_login_without_configure_will_do_where_none_is_needed(
    options: BrokerOptions, names: Names, grant: Grant
) -> None:
    findings = await look(grant("^$", ".*", ".*"), options.topology, declares=False)

    assert all(finding.ok for finding in findings.values())
    assert "not compared" in findings[f"queue {names.jobs}"].detail


async def test_the_version_is_told(rabbitmq: Broker) -> None:
    async with open_connection(rabbitmq.url, name="test", heartbeat=10, timeout=10, tls=None) as opened:
        found = version(opened)

    assert found.ok
    assert found.detail.startswith("RabbitMQ ")


async def test_a_queue_of_the_first_release_is_shown(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    await outside.declare_queue(names.old_dropped, durable=True, arguments={"x-queue-type": "quorum"})
    try:
        findings = await look(rabbitmq.url, options.topology)
    finally:
        await outside.queue_delete(names.old_dropped)

    shown = findings[f"queue {names.old_dropped}"]
    assert shown.ok
    assert "delete it once it is empty" in shown.detail
