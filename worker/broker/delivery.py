"""A message in our hands, and everything that can be done with it."""

from schemas import Outcome
from worker.broker import frames, messages
from worker.broker.frames import Delivered
from worker.broker.messages import Content
from worker.broker.publisher import Publisher
from worker.broker.topology import Names
from worker.broker.wire import Lane
from worker.core.context import SPAN
from worker.core.job import Envelope, Job
from worker.core.outcome import routing_key
from worker.core.retry import Retry
from worker.errors import JobError, SessionLostError


class AmqpDelivery:
    """Implements `worker.core.ports.Delivery` on one session's channels.

    Args:
        delivered: The message, and how it came.
        lane: The way back to the channel that it came from.
        publisher: For what becomes of it.
        names: Where that goes.
    """

    def __init__(self, delivered: Delivered, lane: Lane, publisher: Publisher, names: Names) -> None:
        self._tag = delivered.tag
        self._message = delivered.message
        self._lane = lane
        self._publisher = publisher
        self._names = names
        self.envelope: Envelope = messages.read_envelope(delivered.message)
        self.redelivered: bool = delivered.redelivered

    @property
    def alive(self) -> bool:
        """Whether the channel that the delivery tag belongs to is still open."""
        return not self._lane.is_closed

    async def publish(self, outcome: Outcome, job: Job) -> None:
        """Publish an event to the results exchange."""
        self._check_alive()
        exchange, key = self._names.results, routing_key(outcome)
        with SPAN.get().publish(exchange, key):
            await self._publisher.to_exchange(exchange, messages.event(outcome, job), key)

    async def retry(self, retry: Retry) -> None:
        """Put a copy into the tier of that wait."""
        self._check_alive()
        copy = messages.retry_copy(self._message, retry, frame_max=self._publisher.frame_max)
        await self._to_queue(self._names.tier(retry.delay), copy)

    async def park(self, error: JobError, job: Job) -> None:
        """Put a copy with its reason among the dead letters."""
        self._check_alive()
        copy = messages.parked_copy(self._message, job, error, frame_max=self._publisher.frame_max)
        await self._to_queue(self._names.dead, copy)

    async def ack(self) -> None:
        """Settle: done with."""
        self._settle(frames.ack(self._lane.number, self._tag))

    async def give_back(self) -> None:
        """Settle: back to the queue; before RabbitMQ 4.3 that counts toward the delivery limit."""
        self._settle(frames.nack(self._lane.number, self._tag))

    async def reject(self) -> None:
        """Settle: back to the queue, counted toward the delivery limit."""
        self._settle(frames.reject(self._lane.number, self._tag))

    def _settle(self, frame: bytes) -> None:
        self._check_alive()
        self._lane.send(frame)

    async def _to_queue(self, queue: str, copy: Content) -> None:
        with SPAN.get().publish("", queue):
            await self._publisher.to_queue(queue, copy)

    def _check_alive(self) -> None:
        # What is published for a message that the broker gives out again is a duplicate for certain.
        if not self.alive:
            raise SessionLostError(
                "the connection that the message came from is gone; the broker delivers it again"
            )
