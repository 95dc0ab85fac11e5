"""The parked messages, for operators: shown, replayed as jobs, or discarded.

A queue cannot be read without taking messages from it. Each one is taken, held unsettled, and returned at
the end unless it was settled. When the process dies, the broker returns what it held. A return counts as a
delivery, which is why the queue's delivery limit is so high (`worker.broker.topology.KEPT_FOR_OTHERS`).

Of two concurrent operators, each would see a part of the queue and take it for the whole. The lock between
them is an exclusive queue, which only one connection can have (RabbitMQ "Queues"). An exclusive consumer is
no lock: quorum queues let a second consumer in (tried on RabbitMQ 3.10 and 4.3).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.exceptions import ChannelLockedResource

from schemas import MAX_BODY_BYTES
from worker.broker import frames, messages
from worker.broker.connection import Connection, open_channel, unbroken
from worker.broker.frames import Message
from worker.broker.publisher import Publisher, open_publisher
from worker.broker.topology import Names, count, explained
from worker.broker.wire import Lane
from worker.core.job import Cut, Job, read_job
from worker.errors import BrokerError, one_line

_RETURN_TIMEOUT, _RETURN_POLL = 5.0, 0.01
_GETTERS = 8
"""Messages asked for concurrently: each takes a millisecond or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A parked message.

    Attributes:
        job: What could be read of it.
        reason: The error code that it was parked with; empty when something else put it there.
        detail: The error message that it was parked with.
        since: When it was parked; None when that was not recorded.
        body: As it was published; only the beginning of one that is larger than a job may have.
        cut: What is known of the rest of such a body; None when it is whole.
        defect: Why not all of its headers can be read; empty when they can.
        headers: All of its headers that can be read. Comparing letters leaves them out: the broker counts in
            them how often a message was taken.
    """

    job: Job
    reason: str
    detail: str
    since: datetime | None
    body: bytes
    cut: Cut | None
    defect: str
    headers: dict[str, Any] = field(compare=False)


class NotWholeError(Exception):
    """A parked message cannot become a job again; the text says why, as one line."""


class Parked:
    """A parked message that is held. It goes back to the queue unless it is settled."""

    def __init__(
        self, got: "_Got", publisher: Publisher, names: Names, on_settled: Callable[[], None]
    ) -> None:
        self._message = got.message
        self._tag = got.tag
        self._lane = got.lane
        self._publisher = publisher
        self._names = names
        self._on_settled = on_settled
        self.letter = _read(got.message)

    async def replay(self) -> None:
        """Publish it as a new job, and remove it here once the broker has confirmed that.

        Raises:
            NotWholeError: Only its beginning was kept; it stays parked.
            BrokerError: The broker did not take it; it stays parked.
        """
        await self.check_whole()
        copy = messages.replayed_copy(self._message, frame_max=self._publisher.frame_max)
        await self._publisher.to_queue(self._names.jobs, copy)
        await self.discard()

    async def check_whole(self) -> None:
        """Check that its whole body was kept. Raises NotWholeError."""
        if cut := self.letter.cut:
            raise NotWholeError(
                f"only the first {len(self.letter.body)} of its {cut.size} bytes were kept: "
                f"have it published again, with at most {MAX_BODY_BYTES} bytes"
            )

    async def discard(self) -> None:
        """Remove it for good. Raises BrokerError when the connection is lost: then it stays parked."""
        if self._lane.is_closed:
            raise BrokerError("the connection with RabbitMQ broke: the message stays parked")
        self._lane.send(frames.ack(self._lane.number, self._tag))
        self._on_settled()


class _Got(NamedTuple):
    """A message, and the delivery tag and the channel to settle it by."""

    message: Message
    tag: int
    lane: Lane


class _Getter:
    """Gets messages of a queue, one at a time, on a channel of its own."""

    def __init__(self, lane: Lane, queue: str, timeout: float) -> None:
        self.lane = lane
        self._queue = queue
        self._timeout = timeout
        self._assembly = frames.Assembly(frames.GET_OK, self._on_message)
        self._answer: asyncio.Future[_Got | None] | None = None
        lane.divert(self._take)
        lane.channel.closing.add_done_callback(lambda _: self._break())

    async def get(self) -> _Got | None:
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

    def _on_message(self, method: bytes, message: Message) -> None:
        self._say(_Got(message, frames.read_get_ok(method).tag, self.lane))

    def _break(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BrokerError("the connection with RabbitMQ broke"))

    def _say(self, got: _Got | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(got)


class DeadLetters:
    """The queue of parked messages, held for one operator.

    Attributes:
        count: How many messages lay in it when it was opened.
        settled: How many of them have been settled.
    """

    def __init__(self, getters: list[_Getter], count: int, publisher: Publisher, names: Names) -> None:
        self._getters = getters
        self.count = count
        self.settled = 0
        self._publisher = publisher
        self._names = names

    async def take(self, limit: int) -> AsyncGenerator[Parked, None]:
        """Give the messages one by one, roughly the oldest first.

        It gives no more than there were in the beginning: a replayed job that fails again comes back, and
        would be replayed for ever.

        Args:
            limit: How many at most. Those that are not settled stay in memory.

        Raises:
            BrokerError: The connection was lost.
        """
        wanted = min(limit, self.count)
        asked = min(wanted, len(self._getters))
        getting = deque((getter, asyncio.create_task(getter.get())) for getter in self._getters[:asked])
        try:
            while getting:
                getter, task = getting.popleft()
                if (got := await task) is None:
                    continue
                if asked < wanted:
                    asked += 1
                    getting.append((getter, asyncio.create_task(getter.get())))
                yield Parked(got, self._publisher, self._names, self._count_settled)
        finally:
            for _, task in getting:
                task.cancel()

    def _count_settled(self) -> None:
        self.settled += 1


@asynccontextmanager
async def open_dead_letters(
    connection: Connection, names: Names, *, timeout: float
) -> AsyncIterator[DeadLetters]:
    """Hold the queue of parked messages. On leaving, all that was not settled goes back.

    Args:
        connection: An open connection.
        names: What the queues are called.
        timeout: Seconds for each question to the broker.

    Raises:
        BrokerError: There is no such queue, the login may not use it, or another operator does.
    """
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel(connection))
        with unbroken():
            await _lock(channel, names.dead, timeout)
            lying = await count(channel, names.dead, timeout=timeout)
        publisher = await stack.enter_async_context(open_publisher(connection, timeout=timeout))
        getters: list[_Getter] = []
        letters = DeadLetters(getters, lying, publisher, names)
        stack.push_async_callback(_await_return, channel, letters, names.dead)
        getters += [
            await stack.enter_async_context(_getter(connection, names.dead, timeout)) for _ in range(_GETTERS)
        ]
        yield letters


async def _await_return(channel: AbstractChannel, letters: DeadLetters, dead: str) -> None:
    """Wait until the broker counts what went back: the next look would miss it before."""
    with suppress(TimeoutError, BrokerError, *CONNECTION_EXCEPTIONS):
        async with asyncio.timeout(_RETURN_TIMEOUT):
            expected = letters.count - letters.settled
            while await count(channel, dead, timeout=_RETURN_TIMEOUT) < expected:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_RETURN_POLL)


async def _lock(channel: AbstractChannel, dead: str, timeout: float) -> None:
    name = f"{dead}.operator"
    try:
        with explained("queue", name):
            await channel.declare_queue(name, exclusive=True, timeout=timeout)
    except BrokerError as exc:
        if isinstance(exc.__cause__, ChannelLockedResource):
            raise BrokerError(
                f"another operator is looking into {dead} now, and holds its messages: wait until that ends"
            ) from exc
        raise


@asynccontextmanager
async def _getter(connection: Connection, queue: str, timeout: float) -> AsyncIterator[_Getter]:
    async with open_channel(connection) as channel:
        with unbroken():
            getter = _Getter(await connection.lane(channel), queue, timeout)
        try:
            yield getter
        finally:
            # Not by closing the channel, which counts toward the delivery limit. A nack does not since 4.3.
            with suppress(*CONNECTION_EXCEPTIONS):
                await getter.lane.channel.basic_nack(0, multiple=True, requeue=True)


def _read(message: Message) -> DeadLetter:
    envelope = messages.read_letter(message)
    headers = message.properties.headers()
    death = messages.last_death(message.properties)
    since = headers.get(messages.DEAD_SINCE, death.get("time"))
    return DeadLetter(
        job=read_job(envelope),
        # The broker itself may have put it there, when no worker consumed what it gave up on.
        reason=one_line(str(headers.get(messages.DEAD_REASON, death.get("reason", "")))),
        detail=one_line(str(headers.get(messages.DEAD_DETAIL, ""))),
        since=since.astimezone(UTC) if isinstance(since, datetime) else None,
        body=message.body,
        cut=envelope.cut,
        defect=envelope.defect,
        headers=headers,
    )
