"""A message in our hands, and everything that can be done with it."""

from collections.abc import Awaitable

from aio_pika import IncomingMessage, Message
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import DeliveredMessage

from schemas import Outcome
from worker.broker import messages
from worker.broker.publisher import Publisher
from worker.broker.topology import Names
from worker.context import SPAN
from worker.errors import JobError, SessionLostError
from worker.job import Envelope, Job
from worker.outcome import routing_key
from worker.retry import Retry


class AmqpDelivery:
    """Implements `worker.intake.Delivery` on one session's channels.

    Args:
        message: As aiormq delivers it.
        tag: Its delivery tag.
        publisher: For what becomes of it.
        names: Where that goes.
    """

    def __init__(self, message: DeliveredMessage, tag: int, publisher: Publisher, names: Names) -> None:
        self._message = message
        self._channel = message.channel
        self._tag = tag
        self._publisher = publisher
        self._names = names
        self.envelope: Envelope = messages.read_envelope(message.body, message.header.properties)
        self.redelivered: bool = bool(message.redelivered)

    @property
    def alive(self) -> bool:
        """Whether the channel that the delivery tag belongs to is still open."""
        return not self._channel.is_closed

    async def publish(self, outcome: Outcome, job: Job) -> None:
        """Publish an event to the results exchange."""
        self._check_alive()
        exchange, key = self._names.results, routing_key(outcome)
        with SPAN.get().publish(exchange, key):
            await self._publisher.to_exchange(exchange, messages.event(outcome, job), key)

    async def retry(self, retry: Retry, job: Job) -> None:
        """Put a copy into the tier of that wait."""
        self._check_alive()
        copy = messages.retry_copy(IncomingMessage(self._message), job, retry.attempt)
        await self._to_queue(self._names.tier(retry.delay), copy)

    async def park(self, error: JobError, job: Job) -> None:
        """Put a copy with its reason among the dead letters."""
        self._check_alive()
        copy = messages.parked_copy(IncomingMessage(self._message), job, error)
        await self._to_queue(self._names.dead, copy)

    async def ack(self) -> None:
        """Settle: done with."""
        await _settled(self._channel.basic_ack(self._tag))

    async def give_back(self) -> None:
        """Settle: back to the queue; before RabbitMQ 4.3 that counts toward the delivery limit."""
        await _settled(self._channel.basic_nack(self._tag, requeue=True))

    async def reject(self) -> None:
        """Settle: back to the queue, counted toward the delivery limit."""
        await _settled(self._channel.basic_reject(self._tag, requeue=True))

    async def _to_queue(self, queue: str, copy: Message) -> None:
        with SPAN.get().publish("", queue):
            await self._publisher.to_queue(queue, copy)

    def _check_alive(self) -> None:
        # What is published for a message that the broker gives out again is a duplicate for certain.
        if not self.alive:
            raise _lost()


async def _settled(settling: Awaitable[None]) -> None:
    try:
        await settling
    except CONNECTION_EXCEPTIONS as exc:
        raise _lost() from exc


def _lost() -> SessionLostError:
    return SessionLostError("the connection that the message came from is gone; the broker delivers it again")
