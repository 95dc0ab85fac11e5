"""Opens connections to RabbitMQ and says in one line why one cannot be had."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AuthenticationError, ProbableAuthenticationError
from yarl import URL

from worker.broker.wire import Lane, Take, WireFactory
from worker.errors import BrokerError

_CLOSE_TIMEOUT = 2.0
_MISSED_HEARTBEATS = 3


class Connection(aio_pika.Connection):
    """A connection on whose channels jobs may go past aio-pika and aiormq.

    Args:
        url: With login, virtual host and heartbeat.
        name: What the broker's own tools call it.
        tls: How to verify an `amqps://` broker.
    """

    def __init__(self, url: URL, *, name: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(url, ssl_context=tls, client_properties={"connection_name": name})
        self._factory = WireFactory(tls)
        # aio-pika (10.2) has no parameter for it, but hands these to aiormq as they are.
        self.kwargs["transport_factory"] = self._factory

    async def lane(self, channel: AbstractChannel, take: Take) -> Lane:
        """Take the frames of one of its open channels; see `Wire.lane`."""
        return self._factory.wire.lane(await underlay(channel), take)


@asynccontextmanager
async def connection(
    url: str, *, name: str, heartbeat: int, timeout: float, tls: ssl.SSLContext | None
) -> AsyncIterator[Connection]:
    """Hold one connection open.

    Args:
        url: `amqp://` or `amqps://`, with login and virtual host.
        name: What the broker's own tools call the connection.
        heartbeat: Seconds; the peer counts as dead when three have passed without a frame.
        timeout: Seconds for TCP, TLS and the AMQP handshake together.
        tls: How to verify an `amqps://` broker.

    Raises:
        BrokerError: It cannot be opened.
    """
    opened = await _open(URL(url), name=name, heartbeat=heartbeat, timeout=timeout, tls=tls)
    try:
        yield opened
    finally:
        await _close(opened)


@asynccontextmanager
async def open_channel(connection: Connection, *, confirms: bool = False) -> AsyncIterator[AbstractChannel]:
    """Hold one channel open; with confirms, returned messages raise.

    Raises:
        BrokerError: It cannot be opened.
    """
    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    with unbroken():
        await channel.initialize()
    try:
        yield channel
    finally:
        with suppress(*CONNECTION_EXCEPTIONS):
            await channel.close()


async def underlay(channel: AbstractChannel) -> aiormq.Channel:
    """The channel of aiormq's below one of aio-pika's."""
    return cast("aiormq.Channel", await channel.get_underlay_channel())


@contextmanager
def unbroken() -> Iterator[None]:
    """Turn a connection that breaks, or a broker that keeps silent, into BrokerError."""
    try:
        yield
    except TimeoutError as exc:
        raise BrokerError("RabbitMQ did not answer in time: see its log for alarms") from exc
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerError(f"the connection with RabbitMQ broke: {exc!r}") from exc


async def _open(
    url: URL, *, name: str, heartbeat: int, timeout: float, tls: ssl.SSLContext | None
) -> Connection:
    try:
        async with asyncio.timeout(timeout):
            opened = Connection(url.update_query(heartbeat=_negotiated(heartbeat)), name=name, tls=tls)
            await opened.connect()
            return opened
    except (AuthenticationError, ProbableAuthenticationError) as exc:
        raise BrokerError(
            f"RabbitMQ at {_place(url)} refused the login of {url.user!r}: "
            "check user and password in WORKER_AMQP__URL"
        ) from exc
    except TimeoutError as exc:
        raise BrokerError(
            f"RabbitMQ at {_place(url)} did not answer within {timeout:g} s: check WORKER_AMQP__URL"
        ) from exc
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerError(
            f"RabbitMQ at {_place(url)} cannot be reached: {exc}: check WORKER_AMQP__URL and that it runs"
        ) from exc


def _negotiated(heartbeat: int) -> int:
    """The heartbeat with which aiormq (7.2) notices a dead line after three of those asked for.

    It gives a line three heartbeats and three seconds, and looks every half heartbeat.
    """
    slack = _MISSED_HEARTBEATS
    return max(1, int((_MISSED_HEARTBEATS * heartbeat - slack) / (_MISSED_HEARTBEATS + 0.5)))


async def _close(opened: Connection) -> None:
    # The peer of a dead line never answers the closing handshake.
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await opened.close()
    except (TimeoutError, *CONNECTION_EXCEPTIONS):
        return


def _place(url: URL) -> str:
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}{url.path}"
