"""Reads a queue for operators, and takes nothing out of it.

A queue cannot be read without taking messages from it. Each one is taken, held unsettled, and returned at
the end unless it was removed. When the process dies, the broker returns what it held. A return counts as a
delivery, hence the high delivery limit of these queues (`worker.broker.topology.KEPT_FOR_OTHERS`).

Of two concurrent operators, each would see a part of the queue and take it for the whole. The lock between
them is an exclusive queue, which only one connection can have (RabbitMQ "Queues"). An exclusive consumer is
no lock: quorum queues let a second consumer in (tried on RabbitMQ 3.10 and 4.3).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.exceptions import ChannelLockedResource

from schemas import MAX_BODY_BYTES
from worker.broker import frames
from worker.broker.connection import AmqpConnection, open_channel, unbroken
from worker.broker.frames import Message
from worker.broker.topology import count, explained
from worker.broker.wire import Lane
from worker.errors import BrokerError

HOLD_AT_MOST = 600.0
"""Seconds after which no more messages are taken: by default RabbitMQ closes the channel of a message that
was held for 30 minutes (`consumer_timeout`)."""
COUNTS = frozenset({"x-delivery-count", "x-acquired-count"})
"""Headers in which the broker counts how often a message was taken, by operators too."""

_RETURN_TIMEOUT, _RETURN_POLL = 5.0, 0.01
_GETTERS = 32
"""Messages asked for concurrently, each on a channel of its own: one alone takes a millisecond or more, and a
long queue has to be seen within `HOLD_AT_MOST`."""


class Taken(NamedTuple):
    """A message that is held. It goes back to its queue unless it is removed.

    Attributes:
        message: As it lies there.
        tag: The delivery tag to settle it by.
        lane: The channel to settle it on.
    """

    message: Message
    tag: int
    lane: Lane


class _Getter:
    """Gets messages of a queue, one at a time, on a channel of its own."""

    def __init__(self, lane: Lane, queue: str, timeout: float, whole: int) -> None:
        self.lane = lane
        self._queue = queue
        self._timeout = timeout
        self._assembly = frames.Assembly(
            frames.GET_OK,
            lambda method, message: self._say(Taken(message, frames.read_get_ok(method).tag, lane)),
            whole=whole,
        )
        self._answer: asyncio.Future[Taken | None] | None = None
        lane.divert(self._take)
        lane.channel.closing.add_done_callback(lambda _: self._break())

    async def get(self) -> Taken | None:
        """Get the next message; None when there is none. Raises BrokerError."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.lane.is_closed:
            self._break()
        self.lane.send(frames.get(self.lane.number, self._queue))
        with unbroken():
            return await asyncio.wait_for(self._answer, self._timeout)

    def _take(self, kind: int, payload: bytes) -> bool:
        if kind == frames.METHOD and payload.startswith(frames.GET_EMPTY):
            self._say(None)
            return True
        return self._assembly.take(kind, payload)

    def _break(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BrokerError("the connection with RabbitMQ broke"))

    def _say(self, taken: Taken | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(taken)


class Browser:
    """A queue, held for one operator. Made by `open_browser`.

    Attributes:
        count: How many messages lay in it when it was opened.
        removed: How many of them have been removed.
        was_cut_short: Whether messages were left because others had been held for long enough.
    """

    def __init__(self, getters: list[_Getter], count: int, hold_at_most: float) -> None:
        self._getters = getters
        self._hold_at_most = hold_at_most
        self.count = count
        self.removed = 0
        self.was_cut_short = False

    async def take(self, limit: int) -> AsyncGenerator[Taken, None]:
        """Give the messages one by one, roughly the oldest first.

        It gives at most as many as lay there in the beginning: a job that is published again and fails again
        comes back, and would be read for ever. It also ends when one was held for `hold_at_most` seconds.

        Args:
            limit: How many at most. They are held by the broker, not in memory here.

        Raises:
            BrokerError: The connection was lost.
        """
        wanted = min(limit, self.count)
        asked = min(wanted, len(self._getters))
        now = asyncio.get_running_loop().time
        end = now() + self._hold_at_most
        getting = deque((getter, asyncio.create_task(getter.get())) for getter in self._getters[:asked])
        try:
            while getting:
                getter, task = getting.popleft()
                if (taken := await task) is None:
                    continue
                self.was_cut_short = asked < wanted and now() >= end
                if asked < wanted and not self.was_cut_short:
                    asked += 1
                    getting.append((getter, asyncio.create_task(getter.get())))
                yield taken
        finally:
            # A message that comes for a cancelled task stays unsettled, and goes back with the others.
            for _, task in getting:
                task.cancel()

    def remove(self, taken: Taken) -> None:
        """Take a message out of the queue for good. Raises BrokerError when it went back meanwhile."""
        if taken.lane.is_closed:
            raise BrokerError("the connection with RabbitMQ broke: the message stays where it was")
        taken.lane.send(frames.ack(taken.lane.number, taken.tag))
        self.removed += 1


@asynccontextmanager
async def open_browser(
    connection: AmqpConnection,
    queue: str,
    *,
    timeout: float,
    whole: int = MAX_BODY_BYTES,
    hold_at_most: float = HOLD_AT_MOST,
) -> AsyncIterator[Browser]:
    """Hold a queue. On leaving, all that was not removed goes back.

    No other operator can look into it until the connection is closed.

    Args:
        connection: An open connection.
        queue: What it is called.
        timeout: Seconds for each question to the broker.
        whole: Bytes of a body above which only the beginning is read.
        hold_at_most: Seconds after which no more messages are taken.

    Raises:
        BrokerError: There is no such queue, the login may not use it, or another operator does.
    """
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel(connection))
        with unbroken():
            await _lock(channel, queue, timeout)
            lying = await count(channel, queue, timeout=timeout)
        getters: list[_Getter] = []
        browser = Browser(getters, lying, hold_at_most)
        stack.push_async_callback(_await_return, channel, browser, queue)
        getters += [
            await stack.enter_async_context(_getter(connection, queue, timeout, whole))
            for _ in range(_GETTERS)
        ]
        yield browser


async def _await_return(channel: AbstractChannel, browser: Browser, queue: str) -> None:
    """Wait until the broker counts what went back: the next look would miss it before."""
    with suppress(TimeoutError, BrokerError, *CONNECTION_EXCEPTIONS):
        async with asyncio.timeout(_RETURN_TIMEOUT):
            expected = browser.count - browser.removed
            while await count(channel, queue, timeout=_RETURN_TIMEOUT) < expected:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_RETURN_POLL)


async def _lock(channel: AbstractChannel, queue: str, timeout: float) -> None:
    name = f"{queue}.operator"
    try:
        with explained("queue", name):
            await channel.declare_queue(name, exclusive=True, timeout=timeout)
    except BrokerError as exc:
        if isinstance(exc.__cause__, ChannelLockedResource):
            raise BrokerError(
                f"another operator is looking into {queue} now, and holds its messages: wait until that ends"
            ) from exc
        raise


@asynccontextmanager
async def _getter(
    connection: AmqpConnection, queue: str, timeout: float, whole: int
) -> AsyncIterator[_Getter]:
    async with open_channel(connection) as channel:
        with unbroken():
            getter = _Getter(await connection.lane(channel), queue, timeout, whole)
        try:
            yield getter
        finally:
            # Since RabbitMQ 4.3 giving back does not count toward the delivery limit; closing a channel does.
            with suppress(*CONNECTION_EXCEPTIONS):
                await getter.lane.channel.basic_nack(0, multiple=True, requeue=True)
