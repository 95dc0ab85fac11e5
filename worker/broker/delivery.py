"""A message in our hands, and everything that can be done with it."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas import FailedJob, Outcome
from worker.broker import frames, messages
from worker.broker.frames import Delivered
from worker.broker.messages import Content
from worker.broker.publisher import Publisher, PublisherInTurn
from worker.broker.topology import Names
from worker.broker.wire import Lane
from worker.core.context import SPAN
from worker.core.job import Envelope, Job
from worker.core.outcome import routing_key
from worker.core.retry import Retry
from worker.errors import JobError, SessionLostError


@dataclass(slots=True)
class Origin:
    """Where deliveries came from.

    Attributes:
        lane: The way back to their channel.
        is_deleted: Whether their queue was deleted. The broker then gives them out no second time.
    """

    lane: Lane
    is_deleted: bool = False


class AmqpDelivery:
    """Implements `worker.core.ports.Delivery` on one session's channels.

    Args:
        delivered: The message, and how it came.
        origin: The channel and queue that it came from.
        publisher: For what becomes of it.
        in_turn: For what becomes of it after that, when its queue was deleted.
        names: Where that goes.
    """

    def __init__(
        self,
        delivered: Delivered,
        origin: Origin,
        publisher: Publisher,
        in_turn: PublisherInTurn,
        names: Names,
    ) -> None:
        self._tag = delivered.tag
        self._message = delivered.message
        self._origin = origin
        self._publisher = publisher
        self._in_turn = in_turn
        self._names = names
        self.envelope: Envelope = messages.read_envelope(delivered.message)
        self.redelivered: bool = delivered.redelivered

    @property
    def alive(self) -> bool:
        """Whether something may still be done with it: its channel is open, or nobody else will get it."""
        return self.orphaned or not self._origin.lane.is_closed

    @property
    def orphaned(self) -> bool:
        """Whether its queue was deleted, so that the broker gives it out no second time."""
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

    async def park(self, error: JobError, job: Job) -> None:
        """Put a copy with its reason among the dead letters."""
        await self._send(
            "",
            self._names.dead,
            lambda frame_max: messages.parked_copy(self._message, job, error, frame_max=frame_max),
        )

    async def ack(self) -> None:
        """Settle: done with."""
        self._settle(frames.ack(self._origin.lane.number, self._tag))

    async def give_back(self) -> None:
        """Settle: back to the queue; before RabbitMQ 4.3 that counts toward the delivery limit."""
        self._settle(frames.nack(self._origin.lane.number, self._tag))

    async def reject(self) -> None:
        """Settle: back to the queue, counted toward the delivery limit."""
        self._settle(frames.reject(self._origin.lane.number, self._tag))

    def _settle(self, frame: bytes) -> None:
        self._check_alive()
        # On a closed channel it is an orphan, which nobody has to hear of.
        self._origin.lane.send(frame)

    async def _send(self, exchange: str, routing_key: str, write: Callable[[int], Content]) -> None:
        """Publish what `write` makes for the largest frame that the broker takes."""
        with SPAN.get().publish(exchange, routing_key):
            while True:
                self._check_alive()
                publisher = self._publisher
                try:
                    return await publisher.to_exchange(exchange, write(publisher.frame_max), routing_key)
                except SessionLostError:
                    if not self.orphaned:
                        raise
                self._publisher = await self._in_turn.after(publisher)

    def _check_alive(self) -> None:
        # What is published for a message that the broker gives out again is a duplicate for certain.
        if not self.alive:
            raise SessionLostError(
                "the connection that the message came from is gone; the broker delivers it again"
            )
