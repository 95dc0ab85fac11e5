"""Publishes so that a message either lies in a queue for good or the caller knows that it does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError

from worker.broker.connection import Connection, open_channel
from worker.errors import NotConfirmedError, SessionLostError


class Publisher:
    """Publishes mandatory and with confirms (RabbitMQ "Consumer Acknowledgements and Publisher Confirms").

    Args:
        channel: A channel with confirms whose returns raise.
        timeout: Seconds to wait for each confirm.
    """

    def __init__(self, channel: AbstractChannel, *, timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout
        self._copies = asyncio.Lock()

    async def to_exchange(self, name: str, message: Message, routing_key: str) -> None:
        """Publish an event. Its `message_id` must be unique.

        Raises:
            NotConfirmedError: No queue takes it, or the broker did not confirm it.
            SessionLostError: The channel is gone.
        """
        exchange = await self._channel.get_exchange(name, ensure=False)
        try:
            await exchange.publish(message, routing_key, mandatory=True, timeout=self._timeout)
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

    async def to_queue(self, name: str, message: Message) -> None:
        """Publish a copy of a job into a queue; raises as `to_exchange` does."""
        # aiormq tells by message_id which publish a returned message belongs to. Copies bear the
        # publisher's ids, which may repeat: two at once, and the wrong one would count as confirmed.
        async with self._copies:
            await self.to_exchange("", message, name)


@asynccontextmanager
async def open_publisher(connection: Connection, *, timeout: float) -> AsyncIterator[Publisher]:
    """Open a publisher on a channel of its own; `timeout` are the seconds to wait for each confirm."""
    async with open_channel(connection, confirms=True) as channel:
        yield Publisher(channel, timeout=timeout)
