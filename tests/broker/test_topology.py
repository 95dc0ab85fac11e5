"""The queues and exchanges: declared, checked, and explained when they are not as they should be."""

from dataclasses import replace

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from devkit.broker import Broker
from tests.amqp import put, take
from worker.broker import BrokerOptions, Names, Topology
from worker.broker.topology import declare
from worker.errors import BrokerError

TIMEOUT = 10.0


async def declare_all(broker: Broker, topology: Topology, *, passive: bool = False) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        await declare(connection, topology, passive=passive, timeout=TIMEOUT)


async def test_declaring_twice_changes_nothing(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    """A second pod, or a restart, finds everything as it wants it, and messages stay."""
    await declare_all(rabbitmq, options.topology)
    await put(outside, names.jobs, b"kept")

    await declare_all(rabbitmq, options.topology)
    await declare_all(rabbitmq, options.topology, passive=True)

    assert (await take(outside, names.jobs)).body == b"kept"


async def test_a_missing_queue_is_named_when_nothing_may_be_declared(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    await declare_all(rabbitmq, options.topology)
    await outside.queue_delete(names.dead)

    with pytest.raises(BrokerError, match=rf"the queue {names.dead} does not exist.*WORKER_AMQP__DECLARE"):
        await declare_all(rabbitmq, options.topology, passive=True)


async def test_a_queue_with_other_arguments_is_named(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    await outside.declare_queue(names.jobs, durable=True, arguments={"x-queue-type": "classic"})

    with pytest.raises(BrokerError, match=f"the queue {names.jobs} exists with other arguments"):
        await declare_all(rabbitmq, options.topology)


async def test_a_login_without_permissions_is_told_so(rabbitmq: Broker, options: BrokerOptions) -> None:
    if rabbitmq.node is None:
        pytest.skip("needs a broker whose users we may change")
    rabbitmq.node.rabbitmqctl("add_user", "poor", "poor")
    rabbitmq.node.rabbitmqctl("set_permissions", "poor", "^$", "^$", "^$")
    poor = Broker(rabbitmq.url.replace("guest:guest", "poor:poor"), rabbitmq.node)

    with pytest.raises(BrokerError, match="cannot be used: check the login's permissions"):
        await declare_all(poor, options.topology)


async def test_without_a_results_queue_none_is_declared(
    rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    topology = replace(options.topology, names=replace(names, results_queue=None))

    await declare_all(rabbitmq, topology)

    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await outside.declare_queue(f"{names.jobs.removesuffix('.jobs')}.results", passive=True)


@pytest.mark.parametrize(
    ("seconds", "suffix"), [(10, "10s"), (0.5, "500ms"), (1.5, "1500ms"), (86_400, "86400s"), (0.001, "1ms")]
)
def test_a_tier_is_named_after_its_wait(seconds: float, suffix: str) -> None:
    assert Names().tier(seconds) == f"ccfs.jobs.retry.{suffix}"
