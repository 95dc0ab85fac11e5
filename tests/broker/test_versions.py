"""What RabbitMQ's versions do differently, as far as the worker could notice."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError

from devkit.run.broker import Broker
from devkit.run.rabbitmq import PrivateRabbitMQ
from tests.amqp import outside_channel, put
from tests.broker.conftest import Connected, Inbox, completing
from worker.broker import AmqpDelivery, BrokerOptions, Names, open_session
from worker.broker.connection import open_connection
from worker.broker.dead_letters import open_dead_letters
from worker.broker.follow import follow
from worker.broker.topology import declare
from worker.core.job import read_job

FORGIVES_NACKS = (4, 3)
"""The first version in which giving a message back does not count toward the delivery limit
(RabbitMQ 4.3 "Negative Acknowledgements", "basic.reject vs. basic.nack")."""

CLOSES_WHO_BINDS = (4, 3)
"""The first version seen to close the connection that binds a queue while it is deleted."""

PRIORITIES, STRICT_PRIORITIES = (4, 0), (4, 3)
"""The first versions whose quorum queues know two priorities, and all of them (RabbitMQ "Quorum Queues")."""
HIGH = 5

CAN_DENY = (3, 13)
"""A version that can be told to refuse deprecated features (RabbitMQ "Deprecated Features")."""

DENIED = [
    f"deprecated_features.permit.{feature} = false" for feature in ("global_qos", "transient_nonexcl_queues")
]
"""What RabbitMQ 4.3 refuses by itself; Debian's 4.3 leaves the queues out."""


@pytest.fixture
async def version(rabbitmq: Broker) -> tuple[int, ...]:
    """The broker's version: major and minor."""
    async with open_connection(rabbitmq.url, name="test", heartbeat=10, timeout=10, tls=None) as opened:
        assert opened.transport
        number = str(opened.transport.connection.server_properties["version"])
    return tuple(map(int, number.split(".")[:2]))


async def test_what_is_given_back_again_and_again_is_not_lost(
    version: tuple[int, ...],
    connected: Connected,
    options: BrokerOptions,
    outside: AbstractChannel,
    names: Names,
) -> None:
    """It stays a job, or, where giving back counts as well, the worker hears that the broker gave up."""
    await put(outside, names.jobs, message_id="m1")
    if version < FORGIVES_NACKS:
        last = await connected.inbox.dropped_after(AmqpDelivery.give_back)
    else:
        for _ in range(2 * options.topology.delivery_limit):
            await (await connected.inbox.jobs.get()).give_back()
        last = await connected.inbox.jobs.get()

    assert read_job(last.envelope).job_id == "m1"
    await last.ack()


async def test_a_queue_deleted_while_it_is_bound_costs_no_session(
    version: tuple[int, ...], connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """RabbitMQ 4.3 closes the connection that binds it in that moment (INTERNAL_ERROR)."""
    if version < CLOSES_WHO_BINDS:
        pytest.skip("earlier versions close nothing; some cannot declare that queue again until they restart")
    await put(outside, names.jobs, message_id="m1")
    held = await connected.inbox.jobs.get()
    assert names.results_queue

    for _ in range(3):
        async with completing(connected.session):
            await outside.queue_delete(names.dropped)
            for _ in range(30):
                await outside.queue_delete(names.results_queue)

    assert held.alive


async def test_a_priority_counts_as_far_as_the_broker_can(
    version: tuple[int, ...], options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    """As `submit --priority` says."""
    async with open_connection(options.url, name="test", heartbeat=10, timeout=10, tls=None) as opened:
        await declare(opened, options.topology, passive=False, timeout=10)
    for priority in (1, 1, 2, 5, 9, 7):
        await put(outside, names.jobs, b"%d" % priority, priority=priority)
    queue = await outside.get_queue(names.jobs)

    given = [int((await queue.get(no_ack=True)).body) for _ in range(6)]

    if version < PRIORITIES:
        assert given == [1, 1, 2, 5, 9, 7]
    elif version < STRICT_PRIORITIES:
        # Two high ones for each other, each level in order.
        assert [one for one in given if one >= HIGH] == [5, 9, 7]
        assert [one for one in given if one < HIGH] == [1, 1, 2]
        assert min(given[:2]) >= HIGH
    else:
        assert given == [9, 7, 5, 2, 1, 1]


@pytest.fixture
def strict(version: tuple[int, ...]) -> Iterator[PrivateRabbitMQ]:
    """A node that refuses what is deprecated."""
    if "AMQP" in os.environ or version < CAN_DENY:
        pytest.skip("needs a node of our own that can refuse what is deprecated")
    with PrivateRabbitMQ(conf=DENIED) as node:
        yield node


async def test_nothing_is_used_that_a_later_version_takes_away(
    strict: PrivateRabbitMQ, options: BrokerOptions, names: Names
) -> None:
    """Neither by a worker nor by an operator's commands."""
    inbox = Inbox()
    async with (
        open_session(
            replace(options, url=strict.url),
            on_job=inbox.jobs.put_nowait,
            on_dropped=inbox.dropped.put_nowait,
        ) as session,
        open_connection(strict.url, name="test", heartbeat=10, timeout=10, tls=None) as opened,
        follow(opened, names, ["#"], declares=True, even_if_nobody_else=False, timeout=10),
        open_dead_letters(opened, names, timeout=10) as letters,
    ):
        await session.consume()
        assert session.consuming
        assert letters.count == 0

    async with outside_channel(strict.url) as channel:
        with pytest.raises(AMQPError, match="transient_nonexcl_queues"):
            await channel.declare_queue("refused", durable=False)
