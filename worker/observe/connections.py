"""Bounds the number and the age of an HTTP server's connections."""

import asyncio
from collections.abc import Callable
from typing import cast


class Connections:
    """The open connections of a server, and the factory of their protocols for `loop.create_server`.

    A connection beyond `most` closes the one that was silent for longest. The newest is always served: a
    probe gets its answer however many idle connections a client holds. A connection is closed `patience`
    seconds after it was opened, or after its last answer began, whatever its client does: a client that
    sends or reads a byte now and then cannot hold it for longer.

    Args:
        protocol: Makes the protocol that reads requests and writes answers.
        most: How many may be open.
        patience: Seconds that a client has to send its request, and to read an answer.
    """

    def __init__(self, protocol: Callable[[], asyncio.Protocol], *, most: int, patience: float) -> None:
        self._protocol = protocol
        self._most = most
        self._patience = patience
        # In order of silence: the connection that was silent for longest comes first.
        self._open: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        return _Connection(self, self._protocol())

    def opened(self, transport: asyncio.Transport) -> None:
        """Add a connection, and close the most silent one when there are too many."""
        if len(self._open) >= self._most:
            self._drop(next(iter(self._open)))
        self._open[transport] = self._deadline(transport)

    def heard(self, transport: asyncio.Transport) -> None:
        """Make a connection the least silent one. Its deadline stays."""
        if (deadline := self._open.pop(transport, None)) is not None:
            self._open[transport] = deadline

    def answered(self, transport: asyncio.Transport | None) -> None:
        """Give a connection a new deadline, since an answer begins."""
        if transport is not None and transport in self._open:
            self._open[transport].cancel()
            self._open[transport] = self._deadline(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """Remove a connection that is closed."""
        if (deadline := self._open.pop(transport, None)) is not None:
            deadline.cancel()

    def close(self) -> None:
        """Close every connection without waiting for its client to read."""
        for transport in list(self._open):
            self._drop(transport)

    def _deadline(self, transport: asyncio.Transport) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._patience, self._drop, transport)

    def _drop(self, transport: asyncio.Transport) -> None:
        self.closed(transport)
        # `close` would first wait for the client to read what was written, which it may never do.
        transport.abort()


class _Connection(asyncio.Protocol):
    """Reports the events of a connection to `Connections`, and passes them to the real protocol."""

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
