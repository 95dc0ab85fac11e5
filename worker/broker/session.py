"""A session with RabbitMQ: entered and left as a whole.

One connection consumes and another publishes, so that a broker that blocks publishers (memory or disk alarm)
still reads our acks. When one of its connections or channels closes, the session is lost, and its holder
opens the next one. A deleted queue or exchange does not end it: it is declared again, and deliveries in hand
stay ours, since the broker delivers nothing of a deleted queue a second time.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from pamqp.commands import Basic
from pamqp.common import FieldTable

from worker.broker import frames
from worker.broker.connection import (
    ANSWER_TIMEOUT,
    AmqpConnection,
    finished,
    open_channel,
    open_connection,
    unbroken,
    underlay,
)
from worker.broker.delivery import AmqpDelivery, Origin, Outlet
from worker.broker.publisher import NewestPublisher, publisher
from worker.broker.topology import FROM_THE_WORKER, QueueState, Topology, ask, declare, explained, led, look
from worker.core.retry import backoff
from worker.errors import BrokerError

_DROPPED_PREFETCH = 8
"""Prefetch of messages that the broker gave up on. They are few, and need no download."""
_RESTORE_INTERVAL = 5.0
"""Least seconds between two declarations that returned messages cause: those may come by the thousand."""
_ASKERS = 3
"""Channels on which the states of all queues are asked for concurrently: without a leader each takes half a
second, and a request for `/status` waits for two."""
_STARVED, _UNCOUNTED = 2, 3
"""Checks in a row after which the session is given up: jobs lie in the queue and none comes, or the broker
counts no consumer. A queue whose leader's node is down has none, either, until another is elected."""
_CONSUMING: FieldTable = {"x-consumer-timeout": 30 * 24 * 3600 * 1000}
"""Keeps RabbitMQ 4.3 from taking back a message that we hold, for 30 days (in milliseconds). Our deadlines
end a job. What is held longer waits for a confirm, and a redelivery would only publish it twice. With this
argument a `basic.cancel` always means that the queue is gone. Earlier versions ignore it: there the broker
closes the channel, and the session is lost."""

_T = TypeVar("_T")

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is, and how to get in.

    Attributes:
        url: `amqp://` or `amqps://`, login included.
        tls: How to verify an `amqps://` broker; None for `amqp://`.
    """

    url: str = field(repr=False)
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """How to reach the broker and what to use there.

    Attributes:
        url: As `Address.url`.
        topology: Queues and exchanges.
        declare: False only checks that they exist.
        prefetch: Most unsettled jobs that the broker delivers.
        heartbeat: Seconds.
        connect_timeout: Seconds to open a connection.
        answer_timeout: Seconds for each answer other than a confirm.
        tls: As `Address.tls`.
        host: Our name in the broker's list of connections.
        reread: Gives the address as it is now, for each connection, or raises BrokerError; None where it
            never changes.
    """

    url: str = field(repr=False)
    topology: Topology
    declare: bool
    prefetch: int
    heartbeat: int
    connect_timeout: float
    answer_timeout: float = ANSWER_TIMEOUT
    tls: ssl.SSLContext | None
    host: str
    reread: Callable[[], Awaitable[Address]] | None = None


Receive = Callable[[AmqpDelivery], None]


class _Loss:
    """Whether a session is over, and why. It exists before anything of the session that could break."""

    def __init__(self) -> None:
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def reason(self) -> str:
        """Why it is over; empty while it is not."""
        return self.future.result() if self.future.done() else ""

    def say(self, reason: str) -> None:
        """The session is over. The first reason counts."""
        if not self.future.done():
            self.future.set_result(reason)

    def watch(self, closing: "asyncio.Future[object]") -> None:
        """Lose the session when a connection or channel closes, or if it has closed already."""
        closing.add_done_callback(self._on_close)

    def _on_close(self, closing: "asyncio.Future[object]") -> None:
        if closing.cancelled() or isinstance(closing.exception(), asyncio.CancelledError):
            # aiormq (7.2) cancels a connection whose heartbeats are missing.
            self.say("the line to RabbitMQ went silent")
        else:
            self.say(f"RabbitMQ or the line closed the connection: {closing.exception()!r}")


class _Missing:
    """Whether something that was declared may have been deleted.

    Attributes:
        is_suspected: Set when something may be missing.
    """

    def __init__(self) -> None:
        self.is_suspected = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._completed_at = float("-inf")

    def completed(self) -> None:
        """Everything is there."""
        self._completed_at = self._loop.time()

    def returned(self) -> None:
        """No queue took a message of ours, or a message came through a binding that should not exist."""
        if self._loop.time() - self._completed_at >= _RESTORE_INTERVAL:
            self.is_suspected.set()


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the consumers of a session share.

    Attributes:
        connection: The one that consumes.
        outlet: Publishes what becomes of deliveries.
        loss: Whether the session is over.
        missing: Whether a queue is missing.
    """

    connection: AmqpConnection
    outlet: Outlet
    loss: _Loss
    missing: _Missing


class _Consumer:
    """The consumer of one queue, which can be stopped and started.

    It has its own channel. When its queue is deleted, the broker cancels the consumer. Deliveries in hand
    keep the channel, and the consumer starts again on another one: consuming from a queue whose deletion is
    not complete closes the channel.

    Attributes:
        queue: The queue's name.
        delivered: How many messages have come.
        tag: The consumer's tag; None while it receives nothing.
        is_wanted: Whether it should receive messages.
        is_passing: Whether its queue may be deleted for good.
        is_over: Whether that has happened.
    """

    def __init__(
        self,
        shared: _Shared,
        queue: str,
        *,
        prefetch: int,
        receive: Receive,
        is_passing: bool = False,
    ) -> None:
        self.queue = queue
        self.delivered = 0
        self.tag: str | None = None
        self.is_wanted = False
        self.is_passing = is_passing
        self.is_over = False
        self._shared = shared
        self._prefetch = prefetch
        self._receive = receive
        self._origin: Origin | None = None
        self._cancelled_tag: str | None = None

    async def start(self) -> None:
        """Receive messages if they are wanted and do not come yet. Does nothing without a queue."""
        if not self.is_wanted or self.tag is not None:
            return None
        origin = self._origin or await self._open()
        try:
            with led("queue", self.queue):
                tag = await origin.lane.consume(self.queue, arguments=_CONSUMING)
        except ChannelNotFoundEntity:
            return self.lose(None)
        if origin is not self._origin:
            self._shared.loss.watch(origin.lane.channel.closing)
        # The broker may have cancelled the consumer before this task ran again.
        if tag == self._cancelled_tag:
            origin.is_deleted = True
        else:
            self.tag, self._origin = tag, origin
        return None

    @property
    def is_paused(self) -> bool:
        """Whether it was stopped on a channel that may hold messages."""
        return self._origin is not None and self.tag is None

    @property
    def has_place(self) -> bool:
        """Whether the prefetch leaves room for another message. What dead sessions delivered takes none."""
        return self._origin is not None and self._origin.unsettled < self._prefetch

    async def stop(self) -> None:
        """Receive no more messages. Those in hand stay ours."""
        if self.tag is not None and self._origin is not None:
            tag, self.tag = self.tag, None
            await self._origin.lane.channel.basic_cancel(tag)

    def lose(self, tag: str | None) -> None:
        """The broker has cancelled the consumer, or no longer has the queue."""
        if self._origin is not None:
            self._origin.is_deleted = True
        self.tag, self._origin, self._cancelled_tag = None, None, tag
        self.is_over = self.is_passing
        if not self.is_over:
            self._shared.missing.is_suspected.set()

    async def _open(self) -> Origin:
        connection = self._shared.connection
        channel = connection.channel(publisher_confirms=False)
        await channel.initialize(timeout=ANSWER_TIMEOUT)
        await channel.set_qos(prefetch_count=self._prefetch, timeout=ANSWER_TIMEOUT)
        (await underlay(channel)).on_consumer_cancel_callbacks.add(self._on_cancel)
        origin = Origin(await connection.lane(channel))

        def on_message(method: bytes, message: frames.Message) -> None:
            self.delivered += 1
            self._receive(AmqpDelivery(message, frames.read_deliver(method), origin, self._shared.outlet))

        origin.lane.divert(frames.Assembly(frames.DELIVER, on_message).take)
        return origin

    def _on_cancel(self, cancel: Basic.Cancel) -> None:
        # Deliveries in hand stay unsettled on their channel. Their outcomes are published, and the broker
        # ignores acks for a queue that is gone (tried on RabbitMQ 3.10, 4.0 and 4.3).
        log.warning("broker.consumer_cancelled", queue=self.queue)
        self.lose(cancel.consumer_tag)


class Session:
    """An open session. Made by `open_session`.

    Attributes:
        obstacle: Why something deleted cannot be declared again, as one line; empty when nothing is missing.
    """

    def __init__(
        self, options: BrokerOptions, shared: _Shared, *, jobs: _Consumer, given_up: Sequence[_Consumer]
    ) -> None:
        self._options = options
        self._connection = shared.connection
        self._loss = shared.loss
        self._missing = shared.missing
        self._jobs = jobs
        self._given_up = given_up
        self._stepping = asyncio.Lock()
        self._seen = 0
        self._suspicions = 0
        self.obstacle = ""

    @property
    def consuming(self) -> bool:
        """Whether the broker delivers jobs to us."""
        return self._jobs.tag is not None and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether the session is over."""
        return self._loss.future.done()

    @property
    def loss(self) -> str:
        """Why the session is over; empty while it is not."""
        return self._loss.reason

    def lose(self, reason: str) -> None:
        """End the session; the first reason counts."""
        self._loss.say(reason)

    async def lost(self) -> str:
        """Wait until the session is over, and give the reason."""
        return await asyncio.shield(self._loss.future)

    async def consume(self) -> None:
        """Take jobs, and messages that the broker gave up on.

        A queue that was deleted meanwhile is declared again first. This does not wait for that.

        Raises:
            BrokerError: The session is lost.
        """
        for consumer in self._consumers:
            consumer.is_wanted = True
        # Consuming from a missing queue would close the channel, and with it lose the deliveries in hand.
        jobs = self._jobs
        if jobs.is_paused and not await self._look(jobs.queue):
            # The queue may have been declared again during that look, which has started the consumer.
            if jobs.is_paused:
                jobs.lose(None)
            return
        await self._do(*(consumer.start for consumer in self._consumers))

    async def pause(self) -> None:
        """Take no more jobs. Those in hand stay ours. Raises BrokerError."""
        self._jobs.is_wanted = False
        await self._do(self._jobs.stop)

    async def stop(self) -> None:
        """Take nothing more from any queue. Raises BrokerError."""
        for consumer in self._consumers:
            consumer.is_wanted = False
        await self._do(*(consumer.stop for consumer in self._consumers))

    async def queues(self) -> dict[str, QueueState]:
        """Ask for the state of each queue; raises BrokerError.

        A queue that has no consumer although we consume it has no leader, or its leader has dropped us.
        """
        return _answer(await finished(self._ask_all(), self._options.answer_timeout))

    @property
    def _consumers(self) -> tuple[_Consumer, ...]:
        """All that have a queue, the jobs' last."""
        return tuple(consumer for consumer in (*self._given_up, self._jobs) if not consumer.is_over)

    async def _ask_all(self) -> dict[str, QueueState]:
        before = self._consumed
        queues = list(self._options.topology.queues())
        states: dict[str, QueueState] = {}
        for answered in await asyncio.gather(
            *(self._ask(queues[first::_ASKERS]) for first in range(_ASKERS))
        ):
            states |= answered
        # A consumer that starts or stops meanwhile contradicts nothing.
        for name in before & self._consumed & states.keys():
            if not states[name].unknown and not states[name].consumers:
                why = "RabbitMQ counts no consumer although we consume: the queue may have no leader"
                states[name] = states[name]._replace(unknown=why)
        return states

    @property
    def _consumed(self) -> set[str]:
        return {consumer.queue for consumer in self._consumers if consumer.tag is not None}

    async def _ask(self, queues: Sequence[str]) -> dict[str, QueueState]:
        # Not on the publishing connection: a broker with an alarm does not read it.
        timeout = self._options.answer_timeout
        states: dict[str, QueueState] = {}
        async with open_channel(self._connection) as channel:
            with unbroken():
                for queue in queues:
                    with explained("queue", queue, if_missing=FROM_THE_WORKER):
                        states[queue] = await ask(channel, queue, timeout=timeout)
        return states

    async def check(self) -> None:
        """Lose the session if the broker seems to have dropped our consumer silently.

        That is so when no job has come since the check before although the prefetch had room, and the queue
        had jobs in two checks in a row, or no consumer in three. One look proves nothing: see `QueueState`.
        """
        jobs = self._jobs
        tag = jobs.tag
        try:
            queue = await self._look(jobs.queue)
        except BrokerError:
            return
        if queue is None:
            # The queue may have been declared again during that look, which gave us another consumer.
            if jobs.tag == tag:
                jobs.lose(tag)
            return
        idle = self._seen == jobs.delivered and jobs.has_place
        self._seen = jobs.delivered
        if queue.unknown:
            log.warning("broker.queue_unknown", queue=jobs.queue, reason=queue.unknown)
            return
        suspicion = _suspicion(jobs.queue, queue)
        self._suspicions = self._suspicions + 1 if idle and suspicion else 0
        if self.consuming and self._suspicions >= (_STARVED if queue.consumers else _UNCOUNTED):
            self.lose(suspicion)

    async def keep_complete(self) -> None:
        """Declare again what was deleted, and consume again, until cancelled."""
        failures = 0
        while not self.is_lost:
            await self._missing.is_suspected.wait()
            self._missing.is_suspected.clear()
            try:
                await self._complete()
            except BrokerError as exc:
                if self.is_lost:
                    return
                failures += 1
                wait = backoff(failures, random.random())
                self.obstacle = str(exc)
                log.warning("broker.incomplete", reason=self.obstacle, retry_in=round(wait, 1))
                await asyncio.sleep(wait)
                self._missing.is_suspected.set()
            else:
                failures, self.obstacle = 0, ""
                self._missing.completed()
                log.info("broker.completed")

    async def _complete(self) -> None:
        options = self._options
        # On a connection of its own: RabbitMQ 4.3 closes the one that binds a queue while it is deleted
        # (INTERNAL_ERROR), and the session's holds the jobs in hand.
        async with _connection(options, "topology") as connection:
            with unbroken():
                await declare(
                    connection, options.topology, passive=not options.declare, timeout=options.answer_timeout
                )
        consumers = self._consumers
        await self._do(*(consumer.start for consumer in consumers))
        if gone := [held.queue for held in consumers if held.is_wanted and held.tag is None]:
            raise BrokerError(f"the queue {gone[0]} was deleted as soon as it was declared")

    async def _look(self, queue: str) -> QueueState | None:
        """Ask how many messages and consumers a queue has; None when there is no such queue.

        Raises:
            BrokerError: There is no answer; the session is lost.
        """
        try:
            asking = look(self._connection, queue, timeout=self._options.answer_timeout)
            state = _answer(await finished(asking, self._options.answer_timeout))
        except BrokerError as exc:
            self.lose(f"RabbitMQ does not tell the state of the queue {queue}: {exc}")
            raise BrokerError(self.loss) from exc
        if state is None:
            self._missing.is_suspected.set()
        return state

    async def _do(self, *steps: Callable[[], Awaitable[None]]) -> None:
        """Take steps on channels that hold deliveries, one caller at a time.

        A step goes on when its caller is cancelled: aiormq (7.2) would close the channel. When a step fails
        or takes too long, the session is lost.
        """

        async def take() -> None:
            async with self._stepping:
                for step in steps:
                    await step()

        try:
            _answer(await finished(take(), self._options.answer_timeout))
        except BrokerError as exc:
            reason = f"a request to RabbitMQ failed: {exc}"
            self.lose(reason)
            # Not `self.loss`: the connection that RabbitMQ closed for this step does not say for which.
            raise BrokerError(reason) from exc


def _answer(task: "asyncio.Task[_T]") -> _T:
    """The broker's answer. Raises BrokerError when it did not come."""
    with unbroken():
        if not task.done():
            raise TimeoutError
        return task.result()


def _suspicion(name: str, queue: QueueState) -> str:
    """Why the broker may have dropped our consumer; empty when nothing says so."""
    if not queue.consumers:
        return (
            f"RabbitMQ counts no consumer of {name} although we consume: it has dropped ours, or the queue "
            f"has no leader: see `rabbitmq-queues quorum_status {name}`"
        )
    return f"RabbitMQ gives us no jobs of {name} although there are some" if queue.messages else ""


@asynccontextmanager
async def open_session(
    options: BrokerOptions,
    *,
    on_job: Receive,
    on_dropped: Receive,
    newest: NewestPublisher | None = None,
) -> AsyncIterator[Session]:
    """Open a session: connections, topology, channels; `Session.consume` then starts the deliveries.

    Args:
        options: What to connect to.
        on_job: Called with each job message. It must return without waiting.
        on_dropped: The same for messages that the broker gave up on.
        newest: Lets deliveries of earlier sessions whose queue was deleted publish through this one.

    Raises:
        BrokerError: The session could not be opened; the text says what to do.
    """
    async with AsyncExitStack() as stack:
        loss, missing = _Loss(), _Missing()
        consuming = await stack.enter_async_context(_connection(options, "consumer"))
        loss.watch(consuming.closing)
        publishing = await stack.enter_async_context(_connection(options, "publisher"))
        loss.watch(publishing.closing)
        try:
            topology = await declare(
                consuming, options.topology, passive=not options.declare, timeout=options.answer_timeout
            )
            options = replace(options, topology=topology)
            outlet = await _outlet(options, publishing, loss, missing, newest or NewestPublisher())
            shared = _Shared(consuming, outlet, loss, missing)
            given_up = await _given_up(options, shared, on_dropped)
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as exc:
            reason = "no answer in time" if isinstance(exc, TimeoutError) else repr(exc)
            raise BrokerError(
                f"the session with RabbitMQ could not be set up: no channel was opened: {reason}: see "
                "RabbitMQ's log for alarms, and which of its nodes run"
            ) from exc
        jobs = _Consumer(shared, topology.names.jobs, prefetch=options.prefetch, receive=on_job)
        session = Session(options, shared, jobs=jobs, given_up=given_up)
        completing = asyncio.create_task(session.keep_complete())
        try:
            yield session
        finally:
            completing.cancel()
            session.lose("left")


@asynccontextmanager
async def _connection(options: BrokerOptions, role: str) -> AsyncIterator[AmqpConnection]:
    # For each connection, not for each session: one that restores the topology may come days after a
    # password was changed.
    address = await options.reread() if options.reread else Address(options.url, options.tls)
    async with open_connection(
        address.url,
        name=f"ccfs-worker {options.host} {role}",
        heartbeat=options.heartbeat,
        timeout=options.connect_timeout,
        tls=address.tls,
    ) as opened:
        yield opened


async def _outlet(
    options: BrokerOptions,
    publishing: AmqpConnection,
    loss: _Loss,
    missing: _Missing,
    newest: NewestPublisher,
) -> Outlet:
    channel = publishing.channel(publisher_confirms=True)
    await channel.initialize(timeout=options.answer_timeout)
    loss.watch((await underlay(channel)).closing)
    outgoing = await publisher(publishing, channel, on_return=missing.returned)
    newest.replace(outgoing)
    return Outlet(outgoing, newest, options.topology.names)


async def _given_up(options: BrokerOptions, shared: _Shared, receive: Receive) -> list[_Consumer]:
    """Consumers of what the broker gave up on; there are two while the queue of the first release exists."""
    names = options.topology.names

    def receive_old(delivery: AmqpDelivery) -> None:
        # A worker of the first release has bound its queue again.
        shared.missing.returned()
        receive(delivery)

    consumers = [_Consumer(shared, names.dropped, prefetch=_DROPPED_PREFETCH, receive=receive)]
    # A login of today needs no permission on the queue of the first release.
    with suppress(BrokerError):
        if await look(shared.connection, names.old_dropped, timeout=options.answer_timeout):
            consumers.append(
                _Consumer(
                    shared,
                    names.old_dropped,
                    prefetch=_DROPPED_PREFETCH,
                    receive=receive_old,
                    is_passing=True,
                )
            )
    return consumers
