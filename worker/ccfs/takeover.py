"""Takes large bodies past aiohttp: a thread receives, decrypts and uses them by itself.

On aiohttp's way each byte is copied two or three times on the event loop's thread and then crosses to the
core of the thread that writes it. Here the socket is taken over once the headers are read, so that the bytes
of a block stay in the cache of one core, and the event loop is left to the other jobs. A connection on which
nothing follows the body goes back to aiohttp's pool, which saves another handshake and slow start.

What this relies on, beside what `worker.ccfs.hold` does: `StreamReader.read_nowait` gives all that was
received of a body of known length.
"""

import asyncio
import os
import select
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import cast

import aiohttp

from schemas import ErrorCode
from worker.ccfs.errors import after_headers
from worker.ccfs.exchange import Response
from worker.ccfs.hold import Hold, OpenTls
from worker.errors import JobError

_LEAST_BLOCK = 256 * 1024
_SEALED_BYTES = 64 * 1024
"""Bytes received before they are decrypted; the buffer of each TLS connection grows to about this size."""
_TURN_SECONDS = 0.02
"""Seconds after which a thread is given back to other calls, even while bytes trickle in."""
_PATIENCE_MS = 5
"""Milliseconds that a thread waits for bytes itself; a hop by the event loop takes a tenth of it."""

_spare: defaultdict[int, deque[memoryview]] = defaultdict(deque)
"""Unused memory, by its size."""


class Takeovers:
    """Takes over the responses of one client.

    Args:
        idle_timeout: Seconds that may pass without a byte.
        block_bytes: Bytes received before they are used; each transfer that receives now takes this memory.
        reuse: Whether their connections go back to aiohttp's pool. Over TLS, each then takes half a mebibyte
            more meanwhile.
    """

    def __init__(self, *, idle_timeout: float, block_bytes: int, reuse: bool) -> None:
        self.idle_timeout = idle_timeout
        self.block_bytes = max(_LEAST_BLOCK, block_bytes)
        self._reuse = reuse
        # Each record of 16 KiB releases Python's lock and acquires it again: more threads than cores contend
        # for it, at a fifth more CPU. Without TLS a block is received in one call, and more threads do help.
        self.decrypting = asyncio.Semaphore(max(2, len(os.sched_getaffinity(0))))

    async def take(self, response: Response, head: bytes) -> "Takeover | None":
        """Take a response over from aiohttp.

        Args:
            response: A response whose headers were read.
            head: What was read of its body.

        Returns:
            The takeover, which the caller closes. None when aiohttp has to read the body: its length is not
            known, it is chunked, it is here already or broken off, or its TLS hides its buffers.

        Raises:
            JobError: TRUNCATED.
        """
        size, content = response.content_length, response.content
        protocol, transport = response.connection.protocol, response.connection.transport
        if size is None or "Transfer-Encoding" in response.headers or protocol is None or transport is None:
            return None
        if transport.is_closing():
            return None
        tls = transport.get_extra_info("ssl_object")
        if content.is_eof() or content.exception() or not (tls is None or isinstance(tls, OpenTls)):
            return None
        plain = transport.get_extra_info("socket")
        if plain is None:
            # Its TLS is about to be closed.
            return None
        with after_headers():
            connection = socket.socket(fileno=socket.dup(plain.fileno()))
        connection.setblocking(False)
        try:
            with after_headers():
                first = head + _read_ahead(content)
            hold = await self._hold(Hold(response, protocol, transport), content)
        except BaseException:
            connection.close()
            raise
        return Takeover(self, connection, hold, tls, first=first, size=size)

    async def _hold(self, hold: Hold, content: aiohttp.StreamReader) -> Hold | None:
        if content.is_eof():
            # All of it is here, and the connection was returned already.
            return None
        if self._reuse:
            await hold.begin()
            return hold
        # It lives on through its duplicate.
        hold.abort()
        return None


class Takeover:
    """The body of a response whose connection was taken over. Made by `Takeovers`; to be closed.

    Args:
        options: What all takeovers of the client share.
        connection: The connection, non-blocking; nothing else reads from it.
        hold: Ensures that until the connection is returned; None when it is not returned.
        tls: Its TLS, or None over plain HTTP.
        first: What was received of the body already.
        size: The bytes of the whole body.
    """

    def __init__(
        self,
        options: Takeovers,
        connection: socket.socket,
        hold: Hold | None,
        tls: OpenTls | None,
        *,
        first: bytes,
        size: int,
    ) -> None:
        self._options = options
        self._connection = connection
        self._hold = hold
        self._tls = tls
        self._turns = nullcontext() if tls is None else options.decrypting
        self._first = first
        self._left = self._size = size
        # The buffer of the TLS may hold bytes at first.
        self._is_dry = False
        self._has_answered = False
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @property
    def is_whole(self) -> bool:
        """Whether all of it was received."""
        return not self._left

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until `receive` has something to do and is allowed to; it may be called while this is open.

        Raises:
            JobError: TIMEOUT.
        """
        if self._is_dry:
            await self._readable()
        async with self._turns:
            yield

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._connection, _resolve, readable)
        try:
            with after_headers():
                async with asyncio.timeout(self._options.idle_timeout):
                    await readable
        finally:
            loop.remove_reader(self._connection)

    def receive(self, use: Callable[[memoryview], object], stop: threading.Event) -> None:
        """Receive what there is, block by block; runs on a thread, and returns soon.

        Args:
            use: Called with each block, which is valid until it returns. What it raises is passed on.
            stop: Ends it early.

        Raises:
            JobError: TRUNCATED.
        """
        if self._first:
            self._hand_on(memoryview(self._first), use)
            self._first = b""
        self._is_dry = False
        end = time.monotonic() + _TURN_SECONDS

        def is_over() -> bool:
            return stop.is_set() or time.monotonic() > end

        with _memory(self._options.block_bytes) as block:
            while self._left and not (self._is_dry or is_over()):
                if size := self._fill(block[: self._left], is_over):
                    self._hand_on(block[:size], use)
                else:
                    self._is_dry = True

    def close(self) -> None:
        """Return the connection if it can serve another request; close it otherwise."""
        if self._hold is not None:
            if self.is_whole and self._is_quiet():
                self._hold.release()
            else:
                self._hold.abort()
        self._connection.close()

    def _is_quiet(self) -> bool:
        """Return whether the connection is open and nothing came that would be taken for the next answer."""
        if self._has_answered or not (self._tls is None or self._tls.is_quiet):
            return False
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _hand_on(self, block: memoryview, use: Callable[[memoryview], object]) -> None:
        use(block)
        self._left -= len(block)

    def _fill(self, block: memoryview, is_over: Callable[[], bool]) -> int:
        """Receive up to a block; returns its size, 0 when nothing comes for a while."""
        with after_headers():
            if self._tls is None:
                return self._receive(block)
            return self._decrypt(self._tls, block, is_over)

    def _receive(self, block: memoryview) -> int:
        try:
            return self._some(block)
        except BlockingIOError:
            return self._some(block) if self._poll.poll(_PATIENCE_MS) else 0

    def _decrypt(self, tls: OpenTls, block: memoryview, is_over: Callable[[], bool]) -> int:
        """Fill a block, record by record: a read gives one, of 16 KiB at most (RFC 8446, section 5.1)."""
        filled = 0
        with _memory(_SEALED_BYTES) as sealed:
            while filled < len(block):
                try:
                    size = cast("int", tls.read(len(block) - filled, block[filled:]))
                except ssl.SSLWantReadError:
                    # Only now is it certain that the missing bytes are not in a buffer of the TLS.
                    if is_over() or not self._feed(tls, sealed, patience=not filled):
                        break
                else:
                    filled += size or self._broken_off()
        return filled

    def _feed(self, tls: OpenTls, sealed: memoryview, *, patience: bool) -> bool:
        if tls.outgoing.pending:
            # TLS answers by itself, as to a key update (RFC 8446, section 4.6.3). Bytes that the socket does
            # not take immediately are lost; so the connection serves no other request.
            self._has_answered = True
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


def _read_ahead(content: aiohttp.StreamReader) -> bytes:
    """Return what aiohttp has received already."""
    pieces = []
    while piece := content.read_nowait():
        pieces.append(piece)
    return b"".join(pieces)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextmanager
def _memory(size: int) -> Iterator[memoryview]:
    """Lend memory. The piece that was returned last goes first, since it is still in the cache."""
    spare = _spare[size]
    try:
        memory = spare.pop()
    except IndexError:
        memory = memoryview(bytearray(size))
    try:
        yield memory
    finally:
        spare.append(memory)
