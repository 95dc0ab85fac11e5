"""Publishes so that a message either lies in a queue for good or the caller knows that it does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiormq
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError
from pamqp.commands import Basic

from worker.broker.connection import Connection, open_channel, underlay
from worker.errors import NotConfirmedError, SessionLostError


class Content(Protocol):
    """What can be published: aio-pika's messages, and events."""

    @property
    def body(self) -> bytes:
        """The body."""
        ...

    @property
    def properties(self) -> Basic.Properties:
        """The properties, a `message_id` among them."""
        ...


class Publisher:
    """Publishes mandatory and with confirms (RabbitMQ "Consumer Acknowledgements and Publisher Confirms").

    Args:
        channel: A channel with confirms whose returns raise.
        timeout: Seconds to wait for each confirm.
    """

    def __init__(self, channel: aiormq.Channel, *, timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout
        self._copies: dict[str, asyncio.Event] = {}

    async def to_exchange(self, name: str, message: Content, routing_key: str) -> None:
        """Publish an event. Its `message_id` must be unique.

        Raises:
            NotConfirmedError: No queue takes it, or the broker did not confirm it.
            SessionLostError: The channel is gone.
        """
        if self._channel.is_closed:
            raise SessionLostError("the connection broke before publishing")
        try:
            await self._channel.basic_publish(
                message.body,
                exchange=name,
                routing_key=routing_key,
                properties=message.properties,
                mandatory=True,
                timeout=self._timeout,
                # For the confirm alone: it says more than that the bytes are with the kernel.
                wait=False,
            )
        except PublishError as exc:
            raise NotConfirmedError(
                f"no queue takes {routing_key!r} from the exchange {name!r}: bind or declare one",
                unroutable=True,
            ) from exc
        except DeliveryError as exc:
            raise NotConfirmedError(f"the broker refused to store the message ({exc})") from exc
        except TimeoutError as exc:
            raise NotConfirmedError(f"the broker did not confirm within {self._timeout:g} s") from exc
        except CONNECTION_EXCEPTIONS as exc:
            raise SessionLostError(f"the connection broke while publishing ({exc})") from exc

    async def to_queue(self, name: str, message: Content) -> None:
        """Publish a copy of a job into a queue; raises as `to_exchange` does."""
        # aiormq tells by message_id which publish a returned message belongs to. Copies bear the
        # publisher's ids, which may repeat: two at once, and the wrong one would count as confirmed.
        async with self._alone(message.properties.message_id or ""):
            await self.to_exchange("", message, name)

    @asynccontextmanager
    async def _alone(self, message_id: str) -> AsyncIterator[None]:
        """Wait until no other copy with that id is on its way."""
        while (other := self._copies.get(message_id)) is not None:
            await other.wait()
        self._copies[message_id] = settled = asyncio.Event()
        try:
            yield
        finally:
            del self._copies[message_id]
            settled.set()


@asynccontextmanager
async def open_publisher(connection: Connection, *, timeout: float) -> AsyncIterator[Publisher]:
    """Open a publisher on a channel of its own; `timeout` are the seconds to wait for each confirm."""
    async with open_channel(connection, confirms=True) as channel:
        yield Publisher(await underlay(channel), timeout=timeout)
