"""Follows outcomes as they are published, through a queue of its own: no consumer misses one for it.

That queue must not be the only one. An event that the broker routed counts as published, and its job is
acknowledged: with nobody else bound, the event would be gone with this queue. AMQP cannot ask what is bound
to an exchange. A probe would reach real consumers; in a transaction that is rolled back it is not routed; and
to delete an exchange "if unused" deletes it when it is (tried on RabbitMQ 3.10). So the results queue of the
settings is bound once more, as each worker does when it connects, which changes nothing where it is bound.
Where that cannot be done, following is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from worker.broker import frames
from worker.broker.connection import AmqpConnection, open_channel, unbroken
from worker.broker.topology import FROM_THE_WORKER, Names, explained
from worker.broker.wire import Lane
from worker.errors import BrokerError

_PREFETCH = 500


@asynccontextmanager
async def follow(
    connection: AmqpConnection,
    names: Names,
    keys: Iterable[str],
    *,
    declares: bool,
    even_if_nobody_else: bool,
    timeout: float,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the bodies of the events that are published from now on.

    The queue is exclusive: the broker deletes it with the connection.

    Args:
        connection: An open connection.
        names: What the exchange and the results queue are called.
        keys: Binding keys, such as `failed.#`.
        declares: Whether workers declare and bind the results queue.
        even_if_nobody_else: Follow although events may have no other queue.
        timeout: Seconds for each step of the set-up.

    Raises:
        BrokerError: There is no such exchange, the login may not use it, events may have no other queue, or,
            while the events are read, the connection was lost.
    """
    if not even_if_nobody_else:
        await _find_home(connection, names, declares=declares, timeout=timeout)
    arrived: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

    def on_message(method: bytes, message: frames.Message) -> None:
        arrived.put_nowait((frames.read_deliver(method).tag, message.body))

    async with open_channel(connection) as channel:
        channel.close_callbacks.add(lambda *_: arrived.put_nowait(None))
        with unbroken():
            await channel.set_qos(prefetch_count=_PREFETCH, timeout=timeout)
            with explained("exchange", names.results, if_missing=FROM_THE_WORKER):
                exchange = await channel.get_exchange(names.results)
                queue = await channel.declare_queue(exclusive=True, auto_delete=True, timeout=timeout)
                for key in keys:
                    await queue.bind(exchange, key, timeout=timeout)
                lane = await connection.lane(channel)
                lane.divert(frames.Assembly(frames.DELIVER, on_message).take)
                await lane.consume(queue.name, timeout=timeout)
        yield _bodies(arrived, lane)


async def _find_home(connection: AmqpConnection, names: Names, *, declares: bool, timeout: float) -> None:
    """See that events have a queue that outlives this connection. Raises BrokerError."""
    queue = names.results_queue
    if queue is None:
        raise _homeless(names, "WORKER_AMQP__RESULTS_QUEUE_ENABLED is false")
    if not declares:
        raise _homeless(names, f"WORKER_AMQP__DECLARE is false, and {queue} may not be bound")
    async with open_channel(connection) as channel:
        with unbroken(), explained("exchange", names.results, if_missing=FROM_THE_WORKER):
            await channel.get_exchange(names.results)
            try:
                home = await channel.declare_queue(queue, passive=True, timeout=timeout)
                await home.bind(names.results, "#", timeout=timeout)
            except ChannelNotFoundEntity as exc:
                raise _homeless(names, f"there is no queue {queue}") from exc
            except ChannelAccessRefused as exc:
                raise _homeless(names, f"the login may not bind {queue}") from exc


def _homeless(names: Names, why: str) -> BrokerError:
    return BrokerError(
        f"not followed: it cannot be told whether another queue takes the events of {names.results} ({why}). "
        "If none does, workers acknowledge jobs whose events nobody keeps. If you know that a queue of a "
        "consumer is bound, say --even-if-nobody-else"
    )


async def _bodies(arrived: asyncio.Queue[tuple[int, bytes] | None], lane: Lane) -> AsyncIterator[bytes]:
    while (event := await arrived.get()) is not None:
        tag, body = event
        lane.send(frames.ack(lane.number, tag))
        yield body
    raise BrokerError("the connection with RabbitMQ broke: what was published meanwhile is not shown")
