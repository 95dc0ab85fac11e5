"""Inspects a broker without changing it: topology, arguments, permissions.

AMQP cannot ask for permissions, nor for a queue's arguments. These ways find them and leave nothing behind
(tried on RabbitMQ 3.10 and 4.3):

- a passive declare tells whether something exists, and how full a queue is;
- declaring what exists with the wanted arguments changes nothing, and is refused when they differ
  (RabbitMQ "Queues", "Declaration and Property Equivalence");
- a publish in a transaction that is rolled back is checked for permission and never delivered;
- a consumer with an argument of the wrong type is checked for permission first and then refused;
- what is bound to an exchange cannot be asked at all.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from worker.broker.connection import AmqpConnection, open_channel, unbroken
from worker.broker.topology import Names, Topology, ask, look
from worker.errors import BrokerError, one_line
from worker.finding import Finding, fine, wrong

_NUMBER = re.compile(r"(\d+)\.(\d+)")
_OLDEST = (3, 10)
"""The first RabbitMQ whose quorum queues know a message TTL."""

_TRIES = 5
"""Slow answers that name no message and no consumer, after which a queue's state counts as unknown. A busy
broker gives a few of them."""
_MAJORITY = "start its nodes: a majority of the members of a queue must run"


class _UnknownError(Exception):
    """RabbitMQ does not know the state of a queue; the text says why."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """A queue or an exchange, and how to look at it and declare it.

    Attributes:
        name: What it is called.
        look: Checks that it exists, and gives what is worth knowing.
        declare: Declares it with the wanted arguments.
        is_used_as_is: Whether the worker also uses one with other arguments.
    """

    name: str
    look: Callable[[AbstractChannel], Awaitable[str]]
    declare: Callable[[AbstractChannel], Awaitable[object]]
    is_used_as_is: bool = False


async def inspect(
    connection: AmqpConnection, topology: Topology, *, declares: bool, timeout: float
) -> list[Finding]:
    """Compare what is in the broker with what the worker needs.

    Args:
        connection: An open connection, with the worker's own login.
        topology: What it needs.
        declares: Whether the worker declares what is missing when it starts.
        timeout: Seconds for each question.

    Raises:
        BrokerError: The connection was lost meanwhile.
    """
    with unbroken():
        names = topology.names
        things = [*_exchanges(topology, timeout), *_queues(topology, timeout)]
        return [
            *[
                await _inspect_thing(connection, thing, declares=declares, timeout=timeout)
                for thing in things
            ],
            _results_bindings(names),
            *await _old_queue(connection, names.old_dropped, timeout),
            await _may_consume(connection, names.jobs, timeout),
            await _may_consume(connection, names.dropped, timeout),
            await _may_publish(connection, names.results, timeout),
            # The default exchange: retries and parked copies go straight to their queues.
            await _may_publish(connection, "", timeout),
        ]


def version(connection: AmqpConnection) -> Finding:
    """Give the broker's version, and whether the worker can use it."""
    properties = connection.transport.connection.server_properties if connection.transport else {}
    product, number = (one_line(str(properties.get(name, "?"))) for name in ("product", "version"))
    found = _NUMBER.match(number)
    if product == "RabbitMQ" and found and (int(found[1]), int(found[2])) < _OLDEST:
        return wrong("broker version", f"{product} {number}", "update the broker to 3.10 or later")
    return fine("broker version", f"{product} {number}")


def _exchanges(topology: Topology, timeout: float) -> list[_Thing]:
    names = topology.names

    def exchange(name: str, kind: ExchangeType) -> _Thing:
        async def look(channel: AbstractChannel) -> str:
            await channel.get_exchange(name)
            return f"{kind.value}, durable"

        async def declare(channel: AbstractChannel) -> object:
            return await channel.declare_exchange(name, kind, durable=True, timeout=timeout)

        return _Thing(f"exchange {name}", look, declare)

    return [
        exchange(names.results, ExchangeType.TOPIC),
        exchange(names.dead_letter_exchange, ExchangeType.DIRECT),
    ]


def _queues(topology: Topology, timeout: float) -> list[_Thing]:
    def queue(name: str) -> _Thing:
        async def look(channel: AbstractChannel) -> str:
            found = await ask(channel, name, timeout=timeout, tries=_TRIES)
            if found.unknown:
                raise _UnknownError(f"messages and consumers unknown: {found.unknown}")
            return f"messages ready: {found.messages}, consumers: {found.consumers}"

        async def declare(channel: AbstractChannel) -> object:
            arguments = topology.queues()[name]
            return await channel.declare_queue(name, durable=True, arguments=arguments, timeout=timeout)

        return _Thing(f"queue {name}", look, declare, is_used_as_is=name == topology.names.failed)

    return [queue(name) for name in topology.queues()]


async def _inspect_thing(
    connection: AmqpConnection, thing: _Thing, *, declares: bool, timeout: float
) -> Finding:
    try:
        async with _channel(connection, timeout) as channel:
            seen = await thing.look(channel)
    except ChannelNotFoundEntity:
        return _missing(thing, declares=declares)
    except (_UnknownError, ChannelClosed) as exc:
        remedy = _MAJORITY if isinstance(exc, _UnknownError) else "check the login's permissions"
        return wrong(thing.name, one_line(str(exc)), remedy)
    try:
        async with _channel(connection, timeout) as channel:
            await thing.declare(channel)
    except ChannelPreconditionFailed as exc:
        other = f"exists with other arguments: {one_line(str(exc))}"
        if thing.is_used_as_is:
            return fine(thing.name, f"{seen}; {other}. It is used as it is: delete it to have them changed")
        return wrong(
            thing.name,
            other,
            "remove it once it is empty and let the worker declare it anew, or choose another name",
        )
    except ChannelAccessRefused:
        return _not_declarable(thing, seen, declares=declares)
    return fine(thing.name, seen)


def _missing(thing: _Thing, *, declares: bool) -> Finding:
    if declares:
        return fine(thing.name, "does not exist yet: the worker declares it when it starts")
    return wrong(thing.name, "does not exist", "make it, or set WORKER_AMQP__DECLARE=true")


def _not_declarable(thing: _Thing, seen: str, *, declares: bool) -> Finding:
    if not declares:
        return fine(thing.name, f"{seen} (arguments not compared: the login may not declare)")
    return wrong(
        thing.name,
        "the login may not declare it",
        "grant the login the configure permission on it, or set WORKER_AMQP__DECLARE=false",
    )


def _results_bindings(names: Names) -> Finding:
    """Tell what cannot be seen: whether any queue takes the events."""
    subject = f"bindings of exchange {names.results}"
    unseen = (
        "cannot be seen over AMQP; while no queue is bound, jobs wait for their events, and /readyz says so"
    )
    if names.results_queue is None:
        off = "WORKER_AMQP__RESULTS_QUEUE_ENABLED is false: a consumer must have bound a queue of its own"
        return fine(subject, f"no queue of ours ({off}); {unseen}")
    return fine(subject, f"workers bind {names.results_queue} when they connect; {unseen}")


async def _old_queue(connection: AmqpConnection, name: str, timeout: float) -> list[Finding]:
    """Find the queue that the first release had for messages that the broker gave up on."""
    try:
        found = await look(connection, name, timeout=timeout)
    except BrokerError:
        # A login of today needs no permission on it.
        return []
    if found is None:
        return []
    seen = f"messages ready: {found.messages}, of an earlier release"
    return [fine(f"queue {name}", f"{seen}: delete it once it is empty and no worker of that release runs")]


async def _may_consume(connection: AmqpConnection, queue: str, timeout: float) -> Finding:
    name = f"permission to consume from {queue}"

    async def give_back(message: AbstractIncomingMessage) -> None:
        await message.nack(requeue=True)

    try:
        async with _channel(connection, timeout) as channel:
            held = await channel.get_queue(queue, ensure=False)
            tag = await held.consume(give_back, arguments={"x-priority": "no number"}, timeout=timeout)
            await held.cancel(tag)
    except ChannelAccessRefused:
        return wrong(name, "refused", f"grant the login the read permission on {queue}")
    except ChannelNotFoundEntity:
        return fine(name, "the queue does not exist yet")
    except ChannelPreconditionFailed:
        return fine(name, "granted")
    return fine(name, "granted")


async def _may_publish(connection: AmqpConnection, exchange: str, timeout: float) -> Finding:
    shown = exchange or "queues directly"
    name = f"permission to publish to {shown}"
    try:
        async with _channel(connection, timeout) as channel:
            transaction = channel.transaction()
            await transaction.select(timeout=timeout)
            target = await channel.get_exchange(exchange, ensure=False)
            await target.publish(Message(b""), "ccfs-worker.check", mandatory=False)
            async with asyncio.timeout(timeout):
                # Not by the timeout argument: aiormq (7.2) then sends the frame one turn of the loop later,
                # on a closed channel if the broker has refused the publish meanwhile.
                await transaction.rollback()
    except ChannelAccessRefused:
        wanted = exchange or "amq.default"
        return wrong(name, "refused", f"grant the login the write permission on the exchange {wanted}")
    except ChannelNotFoundEntity:
        return fine(name, "the exchange does not exist yet")
    return fine(name, "granted")


@asynccontextmanager
async def _channel(connection: AmqpConnection, timeout: float) -> AsyncIterator[AbstractChannel]:
    """A channel for one question, since a refusal closes it."""
    async with open_channel(connection) as channel:
        closed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        channel.close_callbacks.add(lambda _, reason: closed.set_result(reason))
        try:
            yield channel
        except RuntimeError as exc:
            # The refusal of one step may arrive before the next, which then finds the channel closed.
            reason = await asyncio.wait_for(closed, timeout)
            if isinstance(reason, ChannelClosed):
                raise reason from exc
            raise
