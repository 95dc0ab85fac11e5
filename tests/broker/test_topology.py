"""The queues and exchanges: declared, checked, and explained when they are not as they should be."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from devkit.run.broker import Broker
from tests.amqp import put, take
from tests.broker.conftest import Connect, completing
from tests.broker.test_session import BODY
from worker.broker import AmqpDelivery, BrokerOptions, Names, Topology
from worker.broker.topology import declare
from worker.core.job import read_job
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


_OLD_DEATH = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


async def declare_first_release(outside: AbstractChannel, names: Names, delivery_limit: int) -> None:
    """The job queue and what stands behind it, as the first release declared them."""
    exchange = await outside.declare_exchange(names.dead_letter_exchange, "direct", durable=True)
    arguments: dict[str, dict[str, Any]] = {
        names.old_dropped: {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": names.dead},
        names.jobs: {
            "x-dead-letter-exchange": names.dead_letter_exchange,
            "x-dead-letter-routing-key": names.old_dropped,
            "x-delivery-limit": delivery_limit,
        },
    }
    for name, own in arguments.items():
        queue = await outside.declare_queue(
            name, durable=True, arguments={"x-queue-type": "quorum"} | _OLD_DEATH | own
        )
        if name == names.old_dropped:
            await queue.bind(exchange, names.old_dropped)


@pytest.fixture
async def first_release(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> AsyncIterator[BrokerOptions]:
    await declare_first_release(outside, names, options.topology.delivery_limit)
    yield options
    await outside.queue_delete(names.old_dropped)


@pytest.mark.usefixtures("first_release")
async def test_an_upgrade_takes_over_what_was_dropped_before(
    connect: Connect, outside: AbstractChannel, names: Names
) -> None:
    """What lies in the old queue comes; what is dropped from now on goes to the new one, and comes once."""
    await put(outside, names.old_dropped, BODY, message_id="before")
    async with connect() as connected:
        before = await connected.inbox.dropped.get()
        await before.ack()
        await put(outside, names.jobs, BODY, message_id="after")
        after = await connected.inbox.dropped_after(AmqpDelivery.reject)
        await after.ack()
        waiting = await connected.session.queues()

        assert [read_job(delivery.envelope).job_id for delivery in (before, after)] == ["before", "after"]
        assert connected.inbox.dropped.empty()
        assert [waiting[name].messages for name in (names.dropped, names.dead)] == [0, 0]
        old = await outside.declare_queue(names.old_dropped, passive=True)
        assert old.declaration_result.message_count == 0


@pytest.mark.usefixtures("first_release")
async def test_what_was_dropped_comes_however_often_it_is_given_back(
    connect: Connect, outside: AbstractChannel, names: Names
) -> None:
    """RabbitMQ 4 gives a queue without a delivery limit one of 20, and then moves the message on."""
    async with connect() as connected:
        await put(outside, names.jobs, BODY, message_id="m1")
        dropped = await connected.inbox.dropped_after(AmqpDelivery.reject)
        for _ in range(50):
            await dropped.reject()
            dropped = await connected.inbox.dropped.get()
        await dropped.ack()

        assert read_job(dropped.envelope).job_id == "m1"
        assert (await connected.session.queues())[names.dead].messages == 0


async def test_a_worker_of_the_first_release_may_bind_its_queue_again(
    first_release: BrokerOptions, connect: Connect, outside: AbstractChannel, names: Names
) -> None:
    """During an upgrade both run: nothing is lost, and what comes by both ways is soon over."""
    async with connect() as connected, asyncio.timeout(60):
        await declare_first_release(outside, names, first_release.topology.delivery_limit)
        async with completing(connected.session):
            await put(outside, names.jobs, BODY, message_id="twice")
            first = await connected.inbox.dropped_after(AmqpDelivery.reject)
            second = await connected.inbox.dropped.get()
        for delivery in (first, second):
            assert read_job(delivery.envelope).job_id == "twice"
            await delivery.ack()

        await put(outside, names.jobs, BODY, message_id="once")
        once = await connected.inbox.dropped_after(AmqpDelivery.reject)
        await once.ack()
        await outside.queue_delete(names.old_dropped)
        await put(outside, names.jobs, BODY, message_id="next")
        following = await connected.inbox.dropped_after(AmqpDelivery.reject)
        await following.ack()
        assert [read_job(each.envelope).job_id for each in (once, following)] == ["once", "next"]
        assert not connected.session.is_lost


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
