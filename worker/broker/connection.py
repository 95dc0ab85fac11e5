"""Opens connections and channels, and says in one line why one cannot be opened."""

import asyncio
import random
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
from worker.net.urls import of_each_host

ANSWER_TIMEOUT = 15.0
"""Seconds for one answer of the broker, other than a confirm: to open a channel, declare, consume, cancel.

Not a setting, and not the publish timeout: declaring a quorum queue takes seconds in a busy cluster, and with
a lower bound no session would ever open there. The end of the worker does not wait for it.
"""
_CLOSE_TIMEOUT = 1.5
"""Seconds for the closing handshake of a connection or channel. A session closes two connections, and must be
over within five seconds of the end of the drain."""
_MISSED_HEARTBEATS, _SLACK = 3, 3.0

_T = TypeVar("_T")
_going_on: "set[asyncio.Task[Any]]" = set()
"""Calls that are running. The event loop refers to tasks weakly: without this, one could be collected."""


class AmqpConnection(aio_pika.Connection):
    """A connection whose channels can bypass aio-pika and aiormq.

    Args:
        url: With login, virtual host and heartbeat.
        name: Its name in the broker's own tools.
        tls: How to verify an `amqps://` broker.
    """

    def __init__(self, url: URL, *, name: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(url, ssl_context=tls, client_properties={"connection_name": name})
        self._factory = WireFactory(tls)
        # aio-pika (10.2) has no parameter for it, but passes `kwargs` to aiormq unchanged.
        self.kwargs["transport_factory"] = self._factory

    @property
    def closing(self) -> asyncio.Future[object]:
        """Done when the connection is closed or broken. Raises RuntimeError before it is open."""
        if self.transport is None:
            raise RuntimeError("the connection is not open yet")
        return self.transport.connection.closing

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        self._factory.abort()

    async def lane(self, channel: AbstractChannel) -> Lane:
        """Open the way past aiormq on one of its open channels."""
        return self._factory.wire.lane(await underlay(channel))


@asynccontextmanager
async def open_connection(
    url: str, *, name: str, heartbeat: int, timeout: float, tls: ssl.SSLContext | None
) -> AsyncIterator[AmqpConnection]:
    """Hold one connection open.

    Args:
        url: `amqp://` or `amqps://`, with login and virtual host. Of several hosts, a random one is tried
            first, and the next one when that fails.
        name: The connection's name in the broker's own tools.
        heartbeat: Seconds; the peer counts as dead when three have passed without a frame.
        timeout: Seconds for TCP, TLS and the AMQP handshake together, of all hosts.
        tls: How to verify an `amqps://` broker.

    Raises:
        BrokerError: It cannot be opened.
    """
    # aiormq (7.2) gives a peer up after 3.5 heartbeats and 3 seconds. We ask for a shorter heartbeat, so that
    # this comes to three of those that were configured.
    asked = max(1, int((_MISSED_HEARTBEATS * heartbeat - _SLACK) / (_MISSED_HEARTBEATS + 0.5)))
    # At random, so that the sessions of many workers spread over the nodes.
    urls = of_each_host(url)
    random.shuffle(urls)
    problems: list[str] = []
    for one in urls:
        try:
            opened = await _open(URL(one), name=name, heartbeat=asked, timeout=timeout / len(urls), tls=tls)
            break
        except BrokerError as exc:
            problems.append(str(exc))
    else:
        raise BrokerError("; ".join(problems))
    try:
        yield opened
    finally:
        await _close(opened)


@asynccontextmanager
async def open_channel(
    connection: AbstractConnection, *, confirms: bool = False
) -> AsyncIterator[AbstractChannel]:
    """Hold one channel open.

    Do not cancel a task that enters this on a connection which others use: aiormq (7.2) then closes a channel
    that is not open yet, and the broker closes the whole connection (504, "expected 'channel.open'").
    `finished` protects from that.

    Raises:
        BrokerError: It cannot be opened.
    """
    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    with unbroken():
        await channel.initialize(timeout=ANSWER_TIMEOUT)
    try:
        yield channel
    finally:
        # In a task that nobody cancels, for the same reason.
        await finished(channel.close(), _CLOSE_TIMEOUT)


async def finished(call: Awaitable[_T], timeout: float) -> "asyncio.Task[_T]":
    """Run a call to the broker to its end, even when the caller is cancelled.

    aiormq (7.2) closes the channel of a cancelled call, and with it the deliveries in hand are lost.

    Args:
        call: Runs in a task of its own.
        timeout: Seconds to wait for it.

    Returns:
        The task. It is not done when the time ran out.
    """
    task = asyncio.ensure_future(call)
    _going_on.add(task)
    task.add_done_callback(_forget)
    await asyncio.wait({task}, timeout=timeout)
    return task


def _forget(task: "asyncio.Task[Any]") -> None:
    _going_on.discard(task)
    # The caller may be gone: asyncio would report an exception that nobody has read.
    if not task.cancelled():
        task.exception()


async def underlay(channel: AbstractChannel) -> aiormq.Channel:
    """Give the channel of aiormq on which one of aio-pika is built."""
    return cast("aiormq.Channel", await channel.get_underlay_channel())


@contextmanager
def unbroken() -> Iterator[None]:
    """Raise BrokerError when the connection breaks or the broker does not answer."""
    try:
        yield
    except TimeoutError as exc:
        raise BrokerError("RabbitMQ did not answer in time: see its log for alarms") from exc
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerError(f"the connection with RabbitMQ broke: {exc!r}") from exc


async def _open(
    url: URL, *, name: str, heartbeat: int, timeout: float, tls: ssl.SSLContext | None
) -> AmqpConnection:
    try:
        async with asyncio.timeout(timeout):
            opened = AmqpConnection(url.update_query(heartbeat=heartbeat), name=name, tls=tls)
            await opened.connect()
            return opened
    except (AuthenticationError, ProbableAuthenticationError) as exc:
        raise BrokerError(
            f"RabbitMQ at {_place(url)} refused the login of {url.user!r}: "
            "check user and password in WORKER_AMQP__URL, or WORKER_AMQP__USERNAME and WORKER_AMQP__PASSWORD"
        ) from exc
    except TimeoutError as exc:
        raise BrokerError(
            f"RabbitMQ at {_place(url)} did not answer within {timeout:g} s: check WORKER_AMQP__URL"
        ) from exc
    except CONNECTION_EXCEPTIONS as exc:
        raise BrokerError(
            f"RabbitMQ at {_place(url)} cannot be reached: {exc}: check WORKER_AMQP__URL and that it runs"
        ) from exc


async def _close(opened: AmqpConnection) -> None:
    # A dead peer never answers the closing handshake.
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await opened.close()
    except (TimeoutError, *CONNECTION_EXCEPTIONS):
        return
    finally:
        opened.abort()


def _place(url: URL) -> str:
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}{url.path}"
