"""Opens connections to RabbitMQ and says in one line why one cannot be had."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AuthenticationError, ProbableAuthenticationError
from yarl import URL

from worker.broker.wire import Lane, WireFactory
from worker.errors import BrokerError

ANSWER_TIMEOUT = 15.0
"""Seconds for one answer of the broker that is no confirm: to open a channel, declare, consume, cancel.

It is no setting, and not the publish timeout: quorum queues take seconds to be declared in a busy cluster,
and a session set up with a lower bound would never open there. The end of the worker does not wait for it.
"""
_CLOSE_TIMEOUT = 1.5
"""Seconds for the closing handshake of a connection or channel. A session closes two connections, and has to
be over within five seconds of the end of the drain."""
_MISSED_HEARTBEATS = 3

_T = TypeVar("_T")
_going_on: "set[asyncio.Task[Any]]" = set()
"""Keeps calls from being garbage collected, which the event loop does not."""


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

    @property
    def closing(self) -> asyncio.Future[object]:
        """Is done as soon as the open connection is closed or broken, also if it has been for long."""
        if self.transport is None:
            raise RuntimeError("the connection is not open yet")
        return self.transport.connection.closing

    def abort(self) -> None:
        """Give up what is left of the connection, without another word to the broker."""
        self._factory.abort()

    async def lane(self, channel: AbstractChannel) -> Lane:
        """Give the way past aiormq on one of its open channels."""
        return self._factory.wire.lane(await underlay(channel))


@asynccontextmanager
async def open_connection(
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
async def open_channel(
    connection: AbstractConnection, *, confirms: bool = False
) -> AsyncIterator[AbstractChannel]:
    """Hold one channel open; with confirms, returned messages raise.

    Who enters it on a connection that others use must not be cancelled: aiormq (7.2) then closes the channel
    in a way that makes the broker close the connection (504, "expected 'channel.open'").

    Raises:
        BrokerError: It cannot be opened.
    """
    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    with unbroken():
        await channel.initialize(timeout=ANSWER_TIMEOUT)
    try:
        yield channel
    finally:
        # Waited for, and never cancelled, for the same reason.
        await finished(channel.close(), _CLOSE_TIMEOUT)


async def finished(call: Awaitable[_T], timeout: float) -> "asyncio.Task[_T]":
    """Wait for a call to the broker that must not be cancelled, whatever becomes of the caller.

    aiormq (7.2) closes the channel of a cancelled call, and what is in hand on it is lost.

    Args:
        call: Goes on in a task of its own.
        timeout: Seconds.

    Returns:
        The task; not done yet if it has taken longer.
    """
    task = asyncio.ensure_future(call)
    _going_on.add(task)
    task.add_done_callback(_forget)
    await asyncio.wait({task}, timeout=timeout)
    return task


def _forget(task: "asyncio.Task[Any]") -> None:
    _going_on.discard(task)
    # Its caller may have gone; asyncio would report an exception that nobody has looked at.
    if not task.cancelled():
        task.exception()


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
    finally:
        opened.abort()


def _place(url: URL) -> str:
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}{url.path}"
