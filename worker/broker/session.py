"""A session with RabbitMQ: entered and left as a whole, never repaired.

One connection consumes and another publishes, so that a broker that blocks publishers (memory or disk
alarm) still gets our acks. When anything of it breaks, or the broker cancels a consumer, the session
is lost; whoever holds it opens the next one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import DeliveredMessage
from pamqp.commands import Queue

from worker.broker import frames
from worker.broker.connection import Connection, connection, underlay
from worker.broker.delivery import AmqpDelivery
from worker.broker.lengths import queue_lengths
from worker.broker.publisher import Publisher, publisher
from worker.broker.topology import Names, Topology, declare
from worker.broker.wire import Lane
from worker.errors import BrokerError

_DROPPED_PREFETCH = 8
"""Messages given up on are few and need no download: they share none of the jobs' places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """How to reach the broker and what to use there.

    Attributes:
        url: `amqp://` or `amqps://`, login included.
        topology: Queues and exchanges.
        declare: False only checks that they exist.
        prefetch: Unsettled jobs that the broker gives us at most.
        heartbeat: Seconds.
        connect_timeout: Seconds to open a connection.
        publish_timeout: Seconds to wait for a confirm, and for any other answer.
        tls: How to verify an `amqps://` broker; None for `amqp://`.
        host: Our name in the broker's list of connections.
    """

    url: str = field(repr=False)
    topology: Topology
    declare: bool
    prefetch: int
    heartbeat: int
    connect_timeout: float
    publish_timeout: float
    tls: ssl.SSLContext | None
    host: str


Receive = Callable[[AmqpDelivery], None]


class _Consumer:
    """One queue's consumer, which can be stopped and started while its channel lives."""

    def __init__(self, queue: str, receive: Callable[[frames.Delivered, Lane], None]) -> None:
        self.delivered = 0
        self.tag: str | None = None
        self._queue = queue
        self._receive = receive
        self._deliveries = frames.Assembly(frames.DELIVER, self._on_message)
        self._lane: Lane

    async def open(self, connection: Connection, channel: AbstractChannel) -> None:
        """Take what is delivered on an open channel from now on."""
        self._lane = await connection.lane(channel, self._deliveries.take)

    async def start(self) -> None:
        if self.tag is None:
            consuming = await self._lane.channel.basic_consume(self._queue, _leave_to_the_lane)
            self.tag = consuming.consumer_tag

    async def stop(self) -> None:
        if self.tag is not None:
            tag, self.tag = self.tag, None
            await self._lane.channel.basic_cancel(tag)

    async def look(self) -> Queue.DeclareOk:
        """Ask how many messages and consumers the queue has."""
        return await self._lane.channel.queue_declare(self._queue, passive=True)

    def _on_message(self, method: bytes, message: frames.Message) -> None:
        self.delivered += 1
        self._receive(frames.read_delivery(method, message), self._lane)


async def _leave_to_the_lane(_: DeliveredMessage) -> None:
    """What aiormq would call with each message, if it saw any."""


class Session:
    """An open session. Made by `open_session`."""

    def __init__(
        self,
        jobs: _Consumer,
        dropped: _Consumer,
        *,
        timeout: float,
        lengths: Callable[[], Awaitable[dict[str, int]]],
    ) -> None:
        self._jobs = jobs
        self._dropped = dropped
        self._lengths = lengths
        self._timeout = timeout
        self._seen = 0
        self._suspicions = 0
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def consuming(self) -> bool:
        """Whether the broker gives us jobs."""
        return self._jobs.tag is not None and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether the session is over."""
        return self._lost.done()

    @property
    def loss(self) -> str:
        """Why the session is over; empty while it is not."""
        return self._lost.result() if self._lost.done() else ""

    def lose(self, reason: str) -> None:
        """End the session; the first reason counts."""
        if not self._lost.done():
            self._lost.set_result(reason)

    async def lost(self) -> str:
        """Wait until the session is over, and give the reason."""
        return await asyncio.shield(self._lost)

    async def consume(self) -> None:
        """Take jobs, and messages that the broker gave up on. Raises BrokerError."""
        await self._do(self._dropped.start, self._jobs.start)

    async def pause(self) -> None:
        """Take no more jobs; what was delivered stays ours. Raises BrokerError."""
        await self._do(self._jobs.stop)

    async def stop(self) -> None:
        """Take nothing more of anything. Raises BrokerError."""
        await self._do(self._jobs.stop, self._dropped.stop)

    async def queue_lengths(self) -> dict[str, int]:
        """Count, by queue, the messages that wait to be delivered. Raises BrokerError."""
        return await self._lengths()

    async def check(self, free_places: int) -> None:
        """Lose the session if the broker seems to have dropped our consumer without a word.

        It counts as dropped when the queue has no consumer at all, or when twice in a row jobs stand in
        it, we could take some, and none has come since the check before.

        Args:
            free_places: Jobs that we could take now.
        """
        try:
            async with asyncio.timeout(self._timeout):
                queue = await self._jobs.look()
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as exc:
            return self.lose(f"RabbitMQ does not tell the state of the job queue: {exc!r}")
        idle = self._seen == self._jobs.delivered
        self._seen = self._jobs.delivered
        starved = bool(idle and queue.message_count and free_places > 0)
        self._suspicions = self._suspicions + 1 if starved else 0
        if self.consuming and (not queue.consumer_count or self._suspicions > 1):
            self.lose("RabbitMQ no longer gives us jobs although there are some")
        return None

    async def _do(self, *steps: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                for step in steps:
                    await step()
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as exc:
            raise BrokerError(f"RabbitMQ did not do as told: {exc!r}") from exc


@asynccontextmanager
async def open_session(
    options: BrokerOptions, *, on_job: Receive, on_dropped: Receive
) -> AsyncIterator[Session]:
    """Open a session: connections, topology, channels; `Session.consume` then starts the deliveries.

    Args:
        options: What to connect to.
        on_job: Is called with each job message; must return at once.
        on_dropped: The same for messages that the broker gave up on.

    Raises:
        BrokerError: The session could not be opened; the text says what to do.
    """
    async with AsyncExitStack() as stack:
        consuming = await stack.enter_async_context(_connection(options, "consumer"))
        publishing = await stack.enter_async_context(_connection(options, "publisher"))
        try:
            session = await _set_up(options, consuming, publishing, on_job, on_dropped)
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as exc:
            raise BrokerError(f"the session with RabbitMQ could not be set up: {exc!r}") from exc
        try:
            yield session
        finally:
            session.lose("left")


def _connection(options: BrokerOptions, role: str) -> AbstractAsyncContextManager[Connection]:
    return connection(
        options.url,
        name=f"ccfs-worker {options.host} {role}",
        heartbeat=options.heartbeat,
        timeout=options.connect_timeout,
        tls=options.tls,
    )


async def _set_up(
    options: BrokerOptions,
    consuming: Connection,
    publishing: Connection,
    on_job: Receive,
    on_dropped: Receive,
) -> Session:
    timeout = options.publish_timeout
    topology = options.topology
    await declare(publishing, topology, passive=not options.declare, timeout=timeout)
    channel = publishing.channel(publisher_confirms=True)
    await channel.initialize(timeout=timeout)
    for_results = await publisher(publishing, channel)

    async def consumer(queue: str, prefetch: int, receive: Receive) -> tuple[AbstractChannel, _Consumer]:
        channel = consuming.channel(publisher_confirms=False)
        await channel.initialize(timeout=timeout)
        await channel.set_qos(prefetch_count=prefetch, timeout=timeout)
        opened = _Consumer(queue, partial(_deliver, receive, for_results, topology.names))
        await opened.open(consuming, channel)
        return channel, opened

    jobs_channel, jobs = await consumer(topology.names.jobs, options.prefetch, on_job)
    dropped_channel, dropped = await consumer(topology.names.dropped, _DROPPED_PREFETCH, on_dropped)
    # Not on the publishing connection, which a broker with an alarm does not read.
    session = Session(jobs, dropped, timeout=timeout, lengths=partial(queue_lengths, consuming, topology))
    for part in (consuming, publishing, channel, jobs_channel, dropped_channel):
        part.close_callbacks.add(partial(_on_close, session))
    for consumer_channel in (jobs_channel, dropped_channel):
        below = await underlay(consumer_channel)
        below.on_consumer_cancel_callbacks.add(partial(_on_cancel, session))
    return session


def _deliver(
    receive: Receive, publisher: Publisher, names: Names, message: frames.Delivered, lane: Lane
) -> None:
    receive(AmqpDelivery(message, lane, publisher, names))


def _on_close(session: Session, _sender: object, reason: BaseException | None) -> None:
    if isinstance(reason, asyncio.CancelledError):
        # aiormq's way of ending a connection whose heartbeats stay away.
        session.lose("the line to RabbitMQ went silent")
    else:
        session.lose(f"RabbitMQ or the line closed the connection: {reason!r}")


def _on_cancel(session: Session, _frame: object) -> None:
    # Up to RabbitMQ 4.2 a message held for too long closes its channel instead.
    session.lose("RabbitMQ cancelled our consumer: was the queue deleted, or its consumer_timeout exceeded?")
