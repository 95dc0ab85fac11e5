"""One HTTP/1.1 connection with CC-FS, on the event loop's public interfaces: one request at a time.

Bytes go from the transport into the blocks that are written to the storage, decrypted on the way. A response
that has no room for more pauses its own connection and no other.
"""

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import cast

from worker.ccfs.errors import NotHttpError
from worker.ccfs.response import Memory, Response
from worker.ccfs.tls_layer import TlsLayer


class Connection(asyncio.BufferedProtocol):
    """A connection.

    Bytes that nobody asked for end it, whether they are complete or not: they could be a late second answer.
    Taken for the answer to the next request, one job's file would be stored under another's name.

    Attributes:
        is_kept: Whether it has brought an answer before. The server may then be closing it at this moment
            (RFC 9112, section 9.3.1), so that its failure says nothing about the server.
        on_free: Called when it may serve another request; it ends instead when this is None.

    Args:
        memory: What it receives into.
        on_lost: Called when it has ended.
    """

    def __init__(self, memory: Memory, on_lost: Callable[["Connection"], None]) -> None:
        self.is_kept = False
        self.on_free: Callable[[Connection], None] | None = None
        self._on_lost = on_lost
        self._memory = memory
        self._transport: asyncio.Transport | None = None
        self._unasked = select.poll()
        self._tls: TlsLayer | None = None
        self._handshake: asyncio.Future[None] | None = None
        self._response: Response | None = None

    async def tunnel(self, host: str, port: int, timeout: float) -> None:
        """Have the proxy at the other end lead on to a host (CONNECT: RFC 9110, section 9.3.6).

        Raises:
            OSError: It does not; TimeoutError when it does not say so within `timeout` seconds.
        """
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii")
        try:
            answer = await self.ask(request, idle_timeout=timeout, is_tunnel=True)
        except (NotHttpError, ConnectionError) as exc:
            raise ConnectionError(f"the proxy of WORKER_CCFS__PROXY_URL: {exc}") from exc
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - RFC 9110, section 9.3.6
            raise ConnectionError(f"the proxy of WORKER_CCFS__PROXY_URL refused: HTTP {answer.status}")

    async def secure(self, context: ssl.SSLContext, server_name: str) -> float:
        """Begin TLS; returns when the server's certificate ends, in Unix seconds, NaN if it was not verified.

        Raises:
            OSError: TLS cannot be had, or the server is not trusted.
        """
        self._tls = tls = TlsLayer(context, server_name)
        self._handshake = asyncio.get_running_loop().create_future()
        try:
            self._advance(0)
            await self._handshake
        finally:
            self._handshake = None
        return tls.certificate_end

    async def ask(self, request: bytes, *, idle_timeout: float, is_tunnel: bool = False) -> Response:
        """Send a request and wait for the head of its response; on any failure the connection is over.

        Args:
            request: The bytes of the request.
            idle_timeout: Seconds until the head is there, and then without a byte of the body.
            is_tunnel: Whether it is a CONNECT, whose answer has no body (RFC 9110, section 9.3.6).

        Raises:
            UnansweredError: The connection ended before the first byte of an answer.
            OSError: It broke; TimeoutError when the head did not come in time.
            NotHttpError: The answer is not HTTP.
        """
        self._response = response = Response(
            self._memory, idle_timeout, resume=self._resume, abort=self.abort, has_body=not is_tunnel
        )
        try:
            transport = self._transport
            # What lies in the kernel was not asked for, either: an answer, or the end of the connection.
            if transport is None or transport.is_closing() or (self.is_kept and self._unasked.poll(0)):
                response.end(None)
            else:
                self._send(request)
            await response.head()
        except BaseException:
            # Kept, it would bring the answer that nobody waits for any more to the next request.
            self.abort()
            raise
        return response

    def abort(self) -> None:
        """End it immediately. To close it would first wait until the server takes what is not sent yet."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Implements BufferedProtocol."""
        self._transport = cast("asyncio.Transport", transport)
        # When the transport is closed, the descriptor's number may be another's: `ask` looks at that first.
        self._unasked.register(transport.get_extra_info("socket"), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Implements BufferedProtocol."""
        self._transport = None
        # Not as it comes: ETIMEDOUT of the kernel is Python's TimeoutError, too.
        self._fail(None if exc is None else ConnectionError(str(exc) or "the connection was reset"))
        self._on_lost(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the interface of BufferedProtocol
        """Implements BufferedProtocol: gives the place for the next bytes.

        It is never empty, which the event loop takes for a defect: a full response has paused the reading.
        """
        if self._tls is None and self._response is not None:
            return self._response.room()
        return self._memory.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Implements BufferedProtocol."""
        if self._response is None and self._handshake is None and (self._tls is None or self.is_kept):
            # Not asked for. Even a part of a TLS record: its rest would come with the next answer.
            self.abort()
            return
        if self._tls is not None:
            # Without a response these are the session tickets of a new connection; they wait.
            self._tls.received(self._memory.scratch[:nbytes])
        self._advance(nbytes)

    def _send(self, data: bytes) -> None:
        if self._tls is not None:
            data = self._tls.to_send(data)
        if data and self._transport is not None:
            self._transport.write(data)

    def _advance(self, nbytes: int) -> None:
        """Use what has come, as far as there is room."""
        response = self._response
        try:
            if self._tls is not None:
                self._decrypt(self._tls)
            elif response is not None:
                response.take(nbytes)
        except (NotHttpError, OSError) as exc:
            self._fail(exc)
        transport = self._transport
        if response is None:
            return
        if response.is_over:
            self._response = None
            # Behind the answer to a CONNECT comes the TLS of the host that it leads to.
            if transport is None or transport.is_closing() or not response.has_body:
                return
            if response.may_reuse and self.on_free is not None and not (self._tls and self._tls.holds_bytes):
                self.is_kept = True
                self.on_free(self)
            else:
                transport.close()
        elif response.is_full and transport is not None:
            transport.pause_reading()

    def _decrypt(self, tls: TlsLayer) -> None:
        if self._handshake is not None and tls.shake_hands() and not self._handshake.done():
            self._handshake.set_result(None)
        if (response := self._response) is not None:
            while not (response.is_over or response.is_full):
                size = tls.read_into(response.room(), one_record=response.is_parsed)
                if not size:
                    break
                response.take(size)
        self._send(b"")
        if tls.is_over:
            self._fail(None)

    def _resume(self) -> None:
        if self._tls is not None:
            # What waits in the TLS makes the socket no more readable: no event would come for it.
            self._advance(0)
        is_full = self._response is not None and self._response.is_full
        if not is_full and self._transport is not None:
            self._transport.resume_reading()

    def _fail(self, error: Exception | None) -> None:
        if self._response is not None:
            self._response.end(error)
        if self._handshake is not None and not self._handshake.done():
            # OpenSSL has an alert for the server that says why.
            self._send(b"")
            if self._transport is not None:
                self._transport.close()
            self._handshake.set_exception(error or ConnectionError("the server hung up in the TLS handshake"))
        else:
            self.abort()
