"""Connections kept between requests, with the hazards of reuse handled."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

import aiohttp
from yarl import URL

from worker.ccfs.hold import OpenTls

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection


class Kept(NamedTuple):
    """A connection for one request.

    Attributes:
        connection: The connection, which goes back by `release`, or ends by `close`.
        is_reused: Whether it served another request before. The server may be closing it at this moment
            (RFC 9112, section 9.3.1), so that its failure says nothing about the server.
    """

    connection: "Connection"
    is_reused: bool


class Pool:
    """Connections to one server. Made by `open_pool`.

    A connection on which bytes came unasked is never given out. They may be a late second answer; taken for
    the answer to the next request, one job's file would be stored under another's name.

    Attributes:
        certificate_end: When the certificate ends that the server showed last, in Unix seconds; NaN
            before any.
    """

    def __init__(self, connector: aiohttp.BaseConnector, url: URL, connect_timeout: float) -> None:
        self._connector = connector
        # Never sent: a connector takes the address, and when to reuse, from a request only.
        self._address = aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop())
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout)
        self._known: WeakSet[ResponseHandler] = WeakSet()
        self.certificate_end = math.nan

    async def take(self) -> Kept:
        """Return a kept connection, or a new one.

        Raises:
            aiohttp.ClientError: No connection can be made.
            aiohttp.ConnectionTimeoutError: None was made in time.
        """
        while True:
            try:
                connection = await self._connector.connect(self._address, [], self._timeout)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
            protocol = connection.protocol
            if protocol is None or protocol not in self._known:
                break
            if not protocol.should_close:
                return Kept(connection, is_reused=True)
            connection.close()
        self._note_certificate(connection.transport)
        if protocol is not None:
            self._known.add(protocol)
            if protocol.closed is not None:
                protocol.closed.add_done_callback(_look_at)
        return Kept(connection, is_reused=False)

    def _note_certificate(self, transport: asyncio.Transport | None) -> None:
        # Empty for a certificate that was not verified.
        certificate = transport and transport.get_extra_info("peercert")
        if certificate:
            self.certificate_end = ssl.cert_time_to_seconds(certificate["notAfter"])


def _look_at(closed: asyncio.Future[None]) -> None:
    """Keep asyncio from logging the end of a connection as an exception that was never retrieved."""
    if not closed.cancelled():
        closed.exception()


@asynccontextmanager
async def open_pool(url: URL, tls: ssl.SSLContext | None, connect_timeout: float) -> AsyncIterator[Pool]:
    """Open a pool; its connections end with it.

    Args:
        url: Where the server is.
        tls: How to verify it; None takes the system's authorities.
        connect_timeout: Seconds for name lookup, TCP and TLS together.
    """
    if tls is not None:
        tls.sslobject_class = OpenTls
    # Their number is not bounded here: the worker's concurrency is the bound.
    async with aiohttp.TCPConnector(limit=0, ssl=tls or True) as connector:
        yield Pool(connector, url, connect_timeout)
