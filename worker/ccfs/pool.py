"""Connections to CC-FS: how one is made, and which are kept between requests."""

import asyncio
import math
import ssl
from dataclasses import dataclass

from worker.ccfs.connection import Connection
from worker.ccfs.response import Memory
from worker.net.dial import dial

_IDLE_SECONDS = 15.0
"""Seconds that one is kept unused: firewalls forget idle connections and tell neither side."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to CC-FS.

    Attributes:
        host: Its name or address.
        port: Its port.
        tls: How it is verified; None for plain HTTP.
        server_name: The name that its certificate has to have.
        proxy: Host and port of a proxy that leads there (CONNECT); None for a direct way.
        connect_timeout: Seconds for name lookup, TCP, proxy and TLS together.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str
    proxy: tuple[str, int] | None
    connect_timeout: float


class Pool:
    """Connections by one route; as many as there are concurrent requests.

    Attributes:
        keep_alive: Whether they are kept between requests.
        certificate_end: When the certificate ends that the server showed last, in Unix seconds; NaN
            before any.
    """

    def __init__(self, route: Route, memory: Memory, *, keep_alive: bool) -> None:
        self._route = route
        self._memory = memory
        self.keep_alive = keep_alive
        self.certificate_end = math.nan
        self._open: set[Connection] = set()
        self._idle: dict[Connection, float] = {}
        """Since when, by the loop's clock; the one that was used last stands last, and is taken first."""
        self._sweeping: asyncio.TimerHandle | None = None

    async def take(self) -> Connection:
        """Return a kept connection, else a new one. Raises as `make`."""
        return self._idle.popitem()[0] if self._idle else await self.make()

    async def make(self) -> Connection:
        """Return a new connection.

        Raises:
            OSError: None can be made; TimeoutError when none was made in time.
        """
        try:
            async with asyncio.timeout(self._route.connect_timeout):
                connection = await self._dial()
        except TimeoutError as exc:
            raise TimeoutError("no connection within WORKER_CCFS__CONNECT_TIMEOUT") from exc
        connection.on_free = self._keep if self.keep_alive else None
        return connection

    async def aclose(self) -> None:
        """End all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in self._open:
            connection.abort()
        # The event loop closes their sockets in its next round.
        await asyncio.sleep(0)

    async def _dial(self) -> Connection:
        route, loop = self._route, asyncio.get_running_loop()
        host, port = route.proxy or (route.host, route.port)
        try:
            connected = await dial(host, port)
        except OSError as exc:
            raise ConnectionError(f"{host}:{port}: {exc.strerror or exc}") from exc
        # From here on the transport owns the socket, and `abort` ends both.
        connection = Connection(self._memory, self._lost)
        await loop.create_connection(lambda: connection, sock=connected)
        self._open.add(connection)
        try:
            if route.proxy is not None:
                await connection.tunnel(route.host, route.port, route.connect_timeout)
            if route.tls is not None:
                self.certificate_end = await connection.secure(route.tls, route.server_name)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.time()
        if self._sweeping is None:
            self._sweeping = loop.call_later(_IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        loop, self._sweeping = asyncio.get_running_loop(), None
        for connection, since in self._idle.items():
            if since + _IDLE_SECONDS > loop.time():
                self._sweeping = loop.call_at(since + _IDLE_SECONDS, self._sweep)
                break
            connection.abort()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)
