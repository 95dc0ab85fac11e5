"""Opens connections to RabbitMQ and says in one line why one cannot be had."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AuthenticationError, ProbableAuthenticationError
from yarl import URL

from worker.errors import BrokerError

_CLOSE_TIMEOUT = 5.0


@asynccontextmanager
async def connection(
    url: str, *, name: str, heartbeat: int, timeout: float, tls: ssl.SSLContext | None
) -> AsyncIterator[AbstractConnection]:
    """Hold one connection open.

    Args:
        url: `amqp://` or `amqps://`, with login and virtual host.
        name: What the broker's own tools call the connection.
        heartbeat: Seconds; the peer counts as dead after about three without a frame.
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


async def _open(
    url: URL, *, name: str, heartbeat: int, timeout: float, tls: ssl.SSLContext | None
) -> AbstractConnection:
    try:
        async with asyncio.timeout(timeout):
            return await aio_pika.connect(
                url.update_query(heartbeat=heartbeat),
                ssl_context=tls,
                client_properties={"connection_name": name},
            )
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


async def _close(opened: AbstractConnection) -> None:
    # The peer of a dead line never answers the closing handshake.
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await opened.close()
    except (TimeoutError, *CONNECTION_EXCEPTIONS):
        return


def _place(url: URL) -> str:
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}{url.path}"
