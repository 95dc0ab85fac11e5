"""A message in our hands, and everything that can be done with it."""

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from schemas import Outcome
from worker.broker import messages
from worker.broker.publisher import Publisher
from worker.broker.topology import Names
from worker.errors import JobError, SessionLostError
from worker.job import Envelope, Job
from worker.outcome import routing_key
from worker.retry import Retry


class AmqpDelivery:
    """Implements `worker.intake.Delivery` on one session's channels."""

    def __init__(self, message: AbstractIncomingMessage, publisher: Publisher, names: Names) -> None:
        self._message = message
        self._publisher = publisher
        self._names = names
        self.envelope: Envelope = messages.read_envelope(message)
        self.redelivered: bool = bool(message.redelivered)

    @property
    def alive(self) -> bool:
        """Whether the channel that the delivery tag belongs to is still open."""
        try:
            return not self._message.channel.is_closed
        except CONNECTION_EXCEPTIONS:
            return False

    async def publish(self, outcome: Outcome, job: Job) -> None:
        """Publish an event to the results exchange."""
        self._check_alive()
        await self._publisher.to_exchange(
            self._names.results, messages.event(outcome, job), routing_key(outcome)
        )

    async def retry(self, retry: Retry, job: Job) -> None:
        """Put a copy into the tier of that wait."""
        self._check_alive()
        copy = messages.retry_copy(self._message, job, retry.attempt)
        await self._publisher.to_queue(self._names.tier(retry.delay), copy)

    async def park(self, error: JobError, job: Job) -> None:
        """Put a copy with its reason among the dead letters."""
        self._check_alive()
        await self._publisher.to_queue(self._names.dead, messages.parked_copy(self._message, job, error))

    async def ack(self) -> None:
        """Settle: done with."""
        try:
            await self._message.ack()
        except CONNECTION_EXCEPTIONS as exc:
            raise _lost() from exc

    async def give_back(self) -> None:
        """Settle: back to the queue, not counted toward the delivery limit where the broker can tell."""
        try:
            await self._message.nack(requeue=True)
        except CONNECTION_EXCEPTIONS as exc:
            raise _lost() from exc

    async def reject(self) -> None:
        """Settle: back to the queue, counted toward the delivery limit."""
        try:
            await self._message.reject(requeue=True)
        except CONNECTION_EXCEPTIONS as exc:
            raise _lost() from exc

    def _check_alive(self) -> None:
        # What is published for a message that the broker gives out again is a duplicate for certain.
        if not self.alive:
            raise _lost()


def _lost() -> SessionLostError:
    return SessionLostError("the connection that the message came from is gone; the broker delivers it again")
