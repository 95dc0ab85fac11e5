"""Keeps aiohttp and the event loop away from a connection of aiohttp's pool for a while.

What this relies on, of asyncio and uvloop alike, and of aiohttp:
- A transport whose reading is paused leaves its socket alone. Under TLS, `pause_reading` only holds back what
  is decrypted; the socket is left alone once `set_read_buffer_limits` allows none of what is not.
- An aborted transport (`WriteTransport.abort`) stops reading immediately, closes its descriptor and sends
  nothing, no TLS alert either: the connection lives on through a duplicate of the descriptor.
- A transport that is closing has done with its socket and TLS, or is about to without a word: a connector
  that is closed aborts its connections (`ssl_shutdown_timeout=0`, its default).
- TLS goes through the `MemoryBIO`s given to `SSLContext.wrap_bio`; what was received and not yet decrypted
  lies in the incoming one and nowhere else.
- After `StreamReader.feed_eof` a body is over, and its connection free for the next request;
  `ResponseHandler.set_response_params` makes a new parser.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from worker.ccfs.exchange import Response

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler


class OpenTls(ssl.SSLObject):
    """A TLS connection that shows the buffers between it and its socket.

    Set as `sslobject_class` of the context that connections are made with.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> Self:  # noqa: ANN401 - passed on
        made: Self = super()._create(incoming, outgoing, **options)  # type: ignore[misc]
        made.incoming, made.outgoing = incoming, outgoing
        return made

    @property
    def is_quiet(self) -> bool:
        """Whether neither it nor its buffers hold any bytes."""
        return not (self.pending() or self.incoming.pending or self.outgoing.pending)


class Hold:
    """Keeps aiohttp and the event loop away from a connection's socket and TLS, from `begin` on.

    Args:
        response: The response on the connection; what aiohttp has received of its body was read.
        protocol: aiohttp's side of the connection.
        transport: The event loop's side of it.
    """

    def __init__(self, response: Response, protocol: "ResponseHandler", transport: asyncio.Transport) -> None:
        self._response = response
        self._protocol = protocol
        self._transport = transport

    async def begin(self) -> None:
        """Stop aiohttp and the event loop from reading."""
        self._protocol.pause_reading()
        self._seal()
        try:
            # A TLS transport that was resumed just before checks its limits once more in the next iteration.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.abort()
            raise
        self._seal()

    def release(self) -> None:
        """Return the connection for the next request, at the end of the body, unless it is closing."""
        if self._transport.is_closing():
            return
        # The present parser still waits for the body, which went past it.
        self._protocol.set_response_params()
        if isinstance(self._transport, _TlsTransport):
            self._transport.set_read_buffer_limits()
        self._response.content.feed_eof()

    def abort(self) -> None:
        """Close it for aiohttp and the event loop; it lives on only if its descriptor was duplicated."""
        self._transport.abort()

    def _seal(self) -> None:
        if isinstance(self._transport, _TlsTransport) and not self._transport.is_closing():
            # A limit of 0 pauses a transport that reads, but resumes a paused one whose buffer is empty.
            self._transport.set_read_buffer_limits()
            self._transport.set_read_buffer_limits(0)


@runtime_checkable
class _TlsTransport(Protocol):
    """A transport over TLS, of asyncio or uvloop: no other has limits for what it reads."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        ...

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how much that is not decrypted yet may wait; None for the default."""
        ...
