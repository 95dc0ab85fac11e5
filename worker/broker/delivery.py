"""A delivered message: publishes its outcome or a copy of it, and settles it.

What is done when is decided in `worker.core.deliveries`, through the protocol `Delivery`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from schemas import FailedJob, Outcome
from worker.broker import frames, messages
from worker.broker.frames import Message, Receipt
from worker.broker.publisher import NewestPublisher, Publisher
from worker.broker.topology import Names
from worker.broker.wire import Lane
from worker.core.context import SPAN
from worker.core.job import Envelope, Hold, Job
from worker.core.outcome import routing_key
from worker.core.retry import Retry
from worker.errors import JobError, SessionLostError


@dataclass(slots=True)
class Origin:
    """Where deliveries came from.

    Attributes:
        lane: Their channel.
        is_deleted: Whether their queue was deleted. The broker then does not deliver them again.
        unsettled: How many of them are in hand.
    """

    lane: Lane
    is_deleted: bool = False
    unsettled: int = 0


@dataclass(frozen=True, slots=True)
class Outlet:
    """What deliveries of a session publish with.

    Attributes:
        publisher: That session's publisher.
        newest: Gives the next one, for deliveries whose session is over and whose queue was deleted.
        names: What queues and exchanges are called.
    """

    publisher: Publisher
    newest: NewestPublisher
    names: Names


class AmqpDelivery:
    """Implements `worker.core.ports.Delivery` on one session's channels.

    Args:
        message: The message.
        receipt: How it was delivered.
        origin: The channel and queue that it came from.
        outlet: What to publish its outcome with.
    """

    def __init__(self, message: Message, receipt: Receipt, origin: Origin, outlet: Outlet) -> None:
        self._message = message
        self._tag = receipt.tag
        self._origin = origin
        origin.unsettled += 1
        self._publisher = outlet.publisher
        self._newest = outlet.newest
        self._names = outlet.names
        self.envelope: Envelope = messages.read_envelope(message)
        self.redelivered: bool = receipt.redelivered

    @property
    def alive(self) -> bool:
        """Whether it is still ours: its channel is open, or the broker will not deliver it again."""
        return self.orphaned or not self._origin.lane.is_closed

    @property
    def orphaned(self) -> bool:
        """Whether its queue was deleted, so that the broker does not deliver it again."""
        return self._origin.is_deleted

    async def publish(self, outcome: Outcome, job: Job) -> None:
        """Publish an event to the results exchange."""
        await self._send(self._names.results, routing_key(outcome), lambda _: messages.event(outcome, job))

    @property
    def keeps_failures(self) -> bool:
        """Whether there is a queue of failed jobs."""
        return self._names.failed is not None

    async def keep(self, failure: FailedJob, job: Job) -> None:
        """Put a failed job into the queue that keeps them, past the exchange that events are routed by."""
        await self._send(
            "",
            self._names.failed or "",
            lambda frame_max: messages.kept_failure(self._message, failure, job, frame_max=frame_max),
        )

    async def retry(self, retry: Retry) -> None:
        """Put a copy into the tier of that wait."""
        await self._send(
            "",
            self._names.tier(retry.delay),
            lambda frame_max: messages.retry_copy(self._message, retry, frame_max=frame_max),
        )

    async def hold(self, hold: Hold, wait: float, job: Job) -> None:
        """Put a copy where jobs wait for their account's key, for `wait` seconds."""
        await self._send(
            "",
            self._names.held,
            lambda frame_max: messages.held_copy(self._message, hold, wait, job, frame_max=frame_max),
        )

    async def park(self, error: JobError, job: Job) -> None:
        """Put a copy with its reason among the dead letters."""
        await self._send(
            "",
            self._names.dead,
            lambda frame_max: messages.parked_copy(self._message, job, error, frame_max=frame_max),
        )

    async def ack(self) -> None:
        """Settle: the job is done with."""
        self._settle(frames.ack(self._origin.lane.number, self._tag))

    async def give_back(self) -> None:
        """Settle: back to the queue; before RabbitMQ 4.3 that counts toward the delivery limit."""
        self._settle(frames.nack(self._origin.lane.number, self._tag))

    async def reject(self) -> None:
        """Settle: back to the queue, counted toward the delivery limit."""
        self._settle(frames.reject(self._origin.lane.number, self._tag))

    def _settle(self, frame: bytes) -> None:
        self._check_alive()
        self._origin.unsettled -= 1
        # An orphan may have a closed channel. Its frame is lost then, which does no harm.
        self._origin.lane.send(frame)

    async def _send(self, exchange: str, routing_key: str, write: Callable[[int], Message]) -> None:
        """Publish what `write` makes, given the largest frame that the broker takes."""
        with SPAN.get().publish(exchange, routing_key):
            while True:
                self._check_alive()
                publisher = self._publisher
                try:
                    return await publisher.to_exchange(exchange, write(publisher.frame_max), routing_key)
                except SessionLostError:
                    if not self.orphaned:
                        raise
                self._publisher = await self._newest.after(publisher)

    def _check_alive(self) -> None:
        # The broker delivers the message again: whatever is published for it now is a duplicate for certain.
        if not self.alive:
            raise SessionLostError(
                "the connection that the message came from is gone; the broker delivers it again"
            )
