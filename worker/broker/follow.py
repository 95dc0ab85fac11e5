"""Follows outcomes as they are published, through a queue of its own: no consumer misses one for it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from worker.broker import frames
from worker.broker.connection import Connection, open_channel, unbroken
from worker.broker.topology import FROM_THE_WORKER, Names, explained
from worker.broker.wire import Lane
from worker.errors import BrokerError

_PREFETCH = 500


@asynccontextmanager
async def follow(
    connection: Connection, names: Names, keys: Iterable[str], *, timeout: float
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the bodies of the events that are published from now on.

    The queue is exclusive: the broker deletes it with the connection.

    Args:
        connection: An open connection.
        names: What the exchange is called.
        keys: Binding keys, such as `failed.#`.
        timeout: Seconds for each step of the set-up.

    Raises:
        BrokerError: There is no such exchange, the login may not use it, or, while the events are
            read, the connection was lost.
    """
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


async def _bodies(arrived: asyncio.Queue[tuple[int, bytes] | None], lane: Lane) -> AsyncIterator[bytes]:
    while (event := await arrived.get()) is not None:
        tag, body = event
        lane.send(frames.ack(lane.number, tag))
        yield body
    raise BrokerError("the connection with RabbitMQ broke: what was published meanwhile is not shown")
