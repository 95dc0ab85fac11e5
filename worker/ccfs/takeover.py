"""Large bodies past aiohttp: a thread receives, decrypts and uses them by itself.

On aiohttp's way each byte is copied two or three times on the event loop's thread and then crosses to the
core of the thread that writes it. Here the socket is taken over once the headers are read, so that the bytes
of a block stay in the cache of one core, and the event loop is left to the other jobs.

What this relies on, of asyncio and uvloop alike, and of aiohttp:
- An aborted transport (`WriteTransport.abort`) stops reading at once and closes its descriptor, and sends
  nothing, no TLS alert either: the connection lives on through a duplicate of the descriptor.
- TLS goes through the `MemoryBIO`s given to `SSLContext.wrap_bio`; what was received and not yet decrypted
  lies in the incoming one and nowhere else.
- `StreamReader.read_nowait` gives all that was received of a body of known length.
"""

import asyncio
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Self, cast

from schemas import ErrorCode
from worker.ccfs.exchange import Response
from worker.ccfs.faults import after_headers
from worker.errors import JobError

_LEAST_BLOCK = 256 * 1024
_SEALED_BYTES = 64 * 1024
"""What is received before it is decrypted; the buffer of each TLS grows to about its size."""
_TURN_SECONDS = 0.02
"""After that long a thread goes back to the others that wait for one, even where bytes trickle in."""
_PATIENCE_MS = 5
"""How long a thread waits for bytes itself: a hop by the event loop takes a tenth of it."""

_local = threading.local()


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


class Takeover:
    """The body of an answer whose connection was taken over. Made by `take_over`; to be closed.

    Args:
        connection: The connection, non-blocking and nobody else's.
        tls: Its TLS, or None over plain HTTP.
        first: What was received of the body already.
        size: The bytes of the whole body.
        idle_timeout: Seconds that may pass without a byte.
        block_bytes: What is received before it is used; each thread keeps that much memory.
    """

    def __init__(
        self,
        connection: socket.socket,
        tls: OpenTls | None,
        *,
        first: bytes,
        size: int,
        idle_timeout: float,
        block_bytes: int,
    ) -> None:
        self._connection = connection
        self._tls = tls
        self._first = first
        self._left = self._size = size
        self._idle_timeout = idle_timeout
        self._block_bytes = max(_LEAST_BLOCK, block_bytes)
        # At first there may be some in the buffer of the TLS.
        self._is_dry = False
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is left to receive."""
        return not self._left

    async def wait(self) -> None:
        """Wait until `receive` has something to do.

        Raises:
            JobError: TIMEOUT.
        """
        if not self._is_dry:
            return
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._connection, _resolve, readable)
        try:
            with after_headers():
                async with asyncio.timeout(self._idle_timeout):
                    await readable
        finally:
            loop.remove_reader(self._connection)

    def receive(self, use: Callable[[memoryview], object], stop: threading.Event) -> None:
        """Receive what there is and hand it on block by block; for a thread, which it gives back soon.

        Args:
            use: Called with each block, which is valid until it returns. What it raises is passed on.
            stop: Ends this early.

        Raises:
            JobError: TRUNCATED.
        """
        if self._first:
            self._hand_on(memoryview(self._first), use)
            self._first = b""
        self._is_dry = False
        end = time.monotonic() + _TURN_SECONDS
        block = _memory("block", self._block_bytes)
        while self._left and not (self._is_dry or stop.is_set() or time.monotonic() > end):
            if size := self._fill(block[: self._left]):
                self._hand_on(block[:size], use)
            else:
                self._is_dry = True

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _hand_on(self, block: memoryview, use: Callable[[memoryview], object]) -> None:
        use(block)
        self._left -= len(block)

    def _fill(self, block: memoryview) -> int:
        """Receive up to a block; gives its size, 0 when nothing comes for a while."""
        with after_headers():
            if self._tls is None:
                return self._receive(block)
            return self._decrypt(self._tls, block)

    def _receive(self, block: memoryview) -> int:
        try:
            return self._some(block)
        except BlockingIOError:
            return self._some(block) if self._poll.poll(_PATIENCE_MS) else 0

    def _decrypt(self, tls: OpenTls, block: memoryview) -> int:
        """Fill a block, record by record: a read gives one, of 16 KiB at most (RFC 8446, section 5.1)."""
        filled = 0
        sealed = _memory("sealed", _SEALED_BYTES)
        while filled < len(block):
            try:
                size = cast("int", tls.read(len(block) - filled, block[filled:]))
            except ssl.SSLWantReadError:
                if not self._feed(tls, sealed, patience=not filled):
                    break
            else:
                filled += size or self._broken_off()
        return filled

    def _feed(self, tls: OpenTls, sealed: memoryview, *, patience: bool) -> bool:
        if tls.outgoing.pending:
            # TLS answers by itself, as to a new key (RFC 8446, section 4.6.3).
            self._connection.send(tls.outgoing.read())
        try:
            size = self._receive(sealed) if patience else self._some(sealed)
        except BlockingIOError:
            return False
        return bool(size and tls.incoming.write(sealed[:size]))

    def _some(self, block: memoryview) -> int:
        return self._connection.recv_into(block) or self._broken_off()

    def _broken_off(self) -> int:
        raise JobError(
            ErrorCode.TRUNCATED,
            f"the body broke off: CC-FS closed the connection {self._left} bytes before the announced "
            f"{self._size}",
        )


def take_over(response: Response, head: bytes, *, idle_timeout: float, block_bytes: int) -> Takeover | None:
    """Take an answer's connection away from aiohttp, which is left with a closed one.

    Args:
        response: An answer whose headers were read.
        head: What was read of its body.
        idle_timeout: Seconds that may pass without a byte.
        block_bytes: What is received before it is used.

    Returns:
        None when its body has to be read on aiohttp's way: its length is not known, it is in chunks, it is
        here already or broken, or its TLS hides its buffers.
    """
    size, content = response.content_length, response.content
    transport = response.connection.transport
    if size is None or "Transfer-Encoding" in response.headers or transport is None:
        return None
    tls = transport.get_extra_info("ssl_object")
    if content.is_eof() or content.exception() or not (tls is None or isinstance(tls, OpenTls)):
        return None
    plain = transport.get_extra_info("socket")
    if plain is None:
        # Under a TLS that is about to be closed.
        return None
    connection = socket.socket(fileno=socket.dup(plain.fileno()))
    first = head
    with after_headers():
        while piece := content.read_nowait():
            first += piece
    transport.abort()
    connection.setblocking(False)
    return Takeover(
        connection, tls, first=first, size=size, idle_timeout=idle_timeout, block_bytes=block_bytes
    )


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _memory(name: str, size: int) -> memoryview:
    """A thread's own memory; used anew for each body, so that it stays in the cache."""
    memory: memoryview | None = getattr(_local, name, None)
    if memory is None:
        memory = memoryview(bytearray(size))
        setattr(_local, name, memory)
    return memory
