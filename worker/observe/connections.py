"""Bounds what the clients of an HTTP server may hold: so many connections, each for so long."""

import asyncio
from collections.abc import Callable
from typing import cast


class Connections:
    """The open connections of a server, and the factory of their protocols for `loop.create_server`.

    One more than `most` closes the one that was silent for longest: whoever comes last is served, so that a
    probe gets its answer however many connections lie idle. A connection is closed `patience` seconds after
    it was opened or its last answer was begun, be it idle, half-way through a request or not reading.

    Args:
        protocol: Makes the protocol that reads requests and writes answers.
        most: How many may be open.
        patience: Seconds.
    """

    def __init__(self, protocol: Callable[[], asyncio.Protocol], *, most: int, patience: float) -> None:
        self._protocol = protocol
        self._most = most
        self._patience = patience
        # The one that was silent for longest comes first.
        self._open: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        return _Connection(self, self._protocol())

    def opened(self, transport: asyncio.Transport) -> None:
        """Count a connection in, and perhaps another out."""
        if len(self._open) >= self._most:
            self._drop(next(iter(self._open)))
        self._open[transport] = self._deadline(transport)

    def heard(self, transport: asyncio.Transport) -> None:
        """Something came on a connection."""
        if (deadline := self._open.pop(transport, None)) is not None:
            self._open[transport] = deadline

    def answered(self, transport: asyncio.Transport | None) -> None:
        """An answer goes out on a connection."""
        if transport is not None and transport in self._open:
            self._open[transport].cancel()
            self._open[transport] = self._deadline(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        if (deadline := self._open.pop(transport, None)) is not None:
            deadline.cancel()

    def close(self) -> None:
        """Close all of them, whatever they are about: nobody waits for a client that does not read."""
        for transport in list(self._open):
            self._drop(transport)

    def _deadline(self, transport: asyncio.Transport) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._patience, self._drop, transport)

    def _drop(self, transport: asyncio.Transport) -> None:
        self.closed(transport)
        # `close` would first wait for the client to take what was written.
        transport.abort()


class _Connection(asyncio.Protocol):
    """Hands everything on, and says that it did."""

    def __init__(self, connections: Connections, protocol: asyncio.Protocol) -> None:
        self._connections = connections
        self._protocol = protocol
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.opened(self._transport)
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self._transport)
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._connections.heard(self._transport)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
