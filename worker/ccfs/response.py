"""A response as it comes in: its head, and its body in blocks. Without I/O of its own.

The head, and chunked framing, are read by llhttp (httptools); the other bodies go straight into blocks.
"""

import asyncio
import mmap
import sys
from collections import deque
from collections.abc import Callable

import httptools

from worker.ccfs.errors import NotHttpError, UnansweredError

_MAX_FRAMING = 64 * 1024
"""Bytes of a head, or of chunked framing between two bytes of a body. httptools bounds neither."""
_MAX_HEADERS = 200
_MAX_LENGTH_DIGITS = 18
"""As many as always fit into 64 bits, signed. int() refuses more than 4,300 (sys.set_int_max_str_digits)."""
_NO_BODY = frozenset({101, 204, 304})
"""Statuses after which there is none, whatever the headers say (RFC 9112, section 6.3)."""
_SWITCHED = 101
_VERSIONS = frozenset({"1.0", "1.1"})
_BLANK_LINE = b"\r\n\r\n"
_LOOKED_AT = frozenset(
    (b"content-encoding", b"content-length", b"content-type", b"date", b"retry-after", b"transfer-encoding")
)
_SCRATCH_BYTES, _LEAST_SCRATCH_BYTES = 256 * 1024, 32 * 1024
_HEAD_BYTES = 64 * 1024
"""Bytes of an answer that are copied at most before its body goes straight into blocks."""
_SPARE_BYTES = 8 * 1024 * 1024
"""Memory that a pool keeps for the blocks of later files."""


class Memory:
    """What the connections of one pool receive into.

    Blocks are mapped one by one, so that each goes back to the system when it is dropped, and recycled, since
    the first touch of a page costs about as much as receiving it.

    Args:
        block_bytes: The size of a block: what a large file is written in.
        blocks: How many blocks one response may hold, in use or received.

    Attributes:
        scratch: Where bytes go that are copied before the event loop goes on.
    """

    def __init__(self, block_bytes: int, blocks: int) -> None:
        self.block_bytes = block_bytes
        self.blocks = blocks
        # Each TLS connection keeps as much again, since OpenSSL's buffer does not shrink.
        self.scratch = memoryview(bytearray(_SCRATCH_BYTES if blocks > 1 else _LEAST_SCRATCH_BYTES))
        self._spare: list[memoryview] = []

    def block(self, left: int | None) -> memoryview:
        """Give a block for a body of which that many bytes are left, if that is known."""
        if left is not None and left < self.block_bytes:
            return memoryview(bytearray(left))
        if self._spare:
            return self._spare.pop()
        return memoryview(mmap.mmap(-1, self.block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def recycle(self, block: memoryview) -> None:
        """Take back a block that nothing refers to any more."""
        if len(block) == self.block_bytes and len(self._spare) * self.block_bytes < _SPARE_BYTES:
            self._spare.append(block)


class Response:
    """A response. Made by `Connection.ask`, which puts bytes into `room` and has them taken in by `take`.

    Attributes:
        status: The HTTP status; 0 until the head is complete.
        headers: Those that anybody looks at, by lower-case name; of several of one name, the list.
        content_length: The size of the body by Content-Length; None without that.
        is_over: Whether all of it came, or nothing more will.
        is_full: Whether there is no room for more until a block is used.
        may_reuse: Whether the connection may serve another request once this is over.

    Args:
        memory: What it is received into.
        idle_timeout: Seconds for the head, and without a byte of the body, after which it counts as dead.
        resume: Called when there is room again.
        abort: Ends its connection.
        has_body: False for the answer to a CONNECT, after which the connection leads elsewhere.
    """

    def __init__(
        self,
        memory: Memory,
        idle_timeout: float,
        *,
        resume: Callable[[], None],
        abort: Callable[[], None],
        has_body: bool = True,
    ) -> None:
        self.has_body = has_body
        self.status = 0
        self.content_length: int | None = None
        self.is_over = self.is_full = self.may_reuse = False
        self._resume = resume
        self._abort = abort
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = idle_timeout
        self._last_at = 0.0
        self._error: Exception | None = None
        self._begin_head()
        self._has_begun = self._is_chunked = False
        self._left: int | None = None
        self._received = self._filled = self._wanted = 0
        self._block: memoryview | None = None
        self._whole: deque[tuple[memoryview, int]] = deque()
        """Blocks to be used, and how many bytes are in them."""
        self._in_use: memoryview | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_parsed(self) -> bool:
        """Whether the next bytes are parsed, so that what follows its end may come with it."""
        return self._parser is not None

    def room(self) -> memoryview:
        """Give the place for the next bytes."""
        return self._memory.scratch[:_HEAD_BYTES] if self._parser is not None else self._free()

    def take(self, size: int) -> None:
        """Take in what was put into `room`. Raises NotHttpError."""
        if self._parser is None:
            self._fill(size)
        elif self._parse(bytes(self._memory.scratch[:size])):
            self.may_reuse = False

    def end(self, error: Exception | None) -> None:
        """End it: nothing more comes, because of an error, or since the connection is closed (None)."""
        if self.is_over:
            return
        if not self.status and not isinstance(error, TimeoutError | NotHttpError):
            words = "the server hung up before the headers of its answer were complete"
            kind = ConnectionError if self._has_begun else UnansweredError
            self._error = kind(str(error or words))
            self._error.__cause__ = error
        elif error is None and (self._is_chunked or self._left is not None):
            end = "its last chunk" if self._left is None else f"the announced {self.content_length}"
            missing = "" if self._left is None else f"{self._left} bytes "
            self._error = ConnectionError(f"CC-FS closed the connection {missing}before {end}")
        else:
            self._error = error
        self.may_reuse = False
        self._finish()

    async def head(self) -> None:
        """Wait for the head. Raises OSError, TimeoutError, NotHttpError, UnansweredError."""
        await self._until(lambda: self.status > 0)

    async def at_least(self, size: int) -> None:
        """Wait until that many bytes of the body came, or all of it; at most a block. Raises as `head`."""
        self._wanted = size
        await self._until(lambda: self._received >= size)

    def peek(self, size: int) -> bytes:
        """Give the first bytes of a body of which no block was taken, as far as they came."""
        first = self._whole[0][0] if self._whole else self._block
        return b"" if first is None else bytes(first[: min(size, self._received)])

    async def next_block(self) -> memoryview | None:
        """Give the next bytes, valid until the next are asked for; None at the end. Raises as `head`."""
        if self._in_use is not None:
            self._memory.recycle(self._in_use)
            self._in_use = None
            if self.is_full:
                self.is_full = False
                self._resume()
        self._wanted = sys.maxsize
        await self._until(lambda: bool(self._whole))
        if not self._whole:
            return None
        self._in_use, size = self._whole.popleft()
        return self._in_use[:size]

    def close(self) -> None:
        """End its connection, unless all of it came: the rest may be gigabytes away."""
        if self._error is not None or not self.is_over:
            self._abort()

    def on_message_begin(self) -> None:
        """Implements llhttp's callback. Behind the end of the response, it is one that nobody asked for."""
        if self._is_parsed_to_end:
            self.may_reuse = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Implements llhttp's callback, for headers and trailers."""
        self._header_count += 1
        if not self.status and (name := name.lower()) in _LOOKED_AT:
            key, text = name.decode("ascii"), value.decode("latin-1")
            known = self.headers.get(key)
            self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Implements llhttp's callback."""
        if not self.status and self._parser is not None:
            self.status = self._parser.get_status_code()
            self.may_reuse = self._parser.should_keep_alive() and self.status != _SWITCHED

    def on_body(self, body: bytes) -> None:
        """Implements llhttp's callback, for chunked bodies."""
        if not self._is_parsed_to_end:
            self._framing_bytes = 0
            self._add(body)

    def on_message_complete(self) -> None:
        """Implements llhttp's callback."""
        self._is_parsed_to_end = True

    def _begin_head(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._framing_bytes = self._header_count = 0
        self._is_parsed_to_end = False
        self._tail = b""

    def _parse(self, data: bytes) -> bytes:
        """Parse bytes; returns those that are not part of the response."""
        self._has_begun = True
        while data and self._parser is not None and not self._is_chunked:
            seen = self._tail + data if self._tail else data
            end = seen.find(_BLANK_LINE)
            # The parser gets no byte of the body: it would not say how far it came.
            size = len(data) if end < 0 else end + len(_BLANK_LINE) - len(self._tail)
            self._tail = b"" if end >= 0 else seen[1 - len(_BLANK_LINE) :]
            self._feed(data[:size])
            data = data[size:]
            if self.status:
                self._begin_body()
        if self._parser is None:
            return self._add(data)
        if data:
            self._parse_chunks(data)
        return b""

    def _begin_body(self) -> None:
        """Decide where the body ends (RFC 9112, section 6.3); what can be read in two ways is refused."""
        if 100 <= self.status < 200 and self.status != _SWITCHED:  # noqa: PLR2004 - RFC 9110, section 15.2
            self._begin_head()
            return
        self._wake()
        if self._parser is not None and self._parser.get_http_version() not in _VERSIONS:
            raise NotHttpError("it is of another version than 1.0 and 1.1")
        encoding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self.status in _NO_BODY or not self.has_body:
            self._left = 0
        elif encoding is not None:
            if length is not None or encoding.lower() != "chunked":
                raise NotHttpError("its Transfer-Encoding is not chunked, or stands beside a Content-Length")
            self._is_chunked = True
            return
        elif length is not None:
            if len(length) > _MAX_LENGTH_DIGITS or not (length.isascii() and length.isdigit()):
                raise NotHttpError(f"its Content-Length of {len(length)} characters is no size")
            self._left = self.content_length = int(length)
        self._parser = None
        if self._left == 0:
            self._finish()

    def _parse_chunks(self, data: bytes) -> None:
        self._feed(data)
        self._tail = (self._tail + data)[-6:]
        if self._is_parsed_to_end:
            # llhttp skips line ends before the next message without a word.
            if not self._tail.endswith(_BLANK_LINE) or self._tail == b"\r\n\r\n\r\n":
                self.may_reuse = False
            self._finish()

    def _feed(self, data: bytes) -> None:
        self._framing_bytes += len(data)
        if not self._is_chunked:
            self._refuse_endless()
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # A 101, which has no body.
            pass
        except httptools.HttpParserError as exc:
            if not self._is_parsed_to_end:
                raise NotHttpError(str(exc)) from exc
            self.may_reuse = False
        self._refuse_endless()

    def _refuse_endless(self) -> None:
        if self._framing_bytes > _MAX_FRAMING or self._header_count > _MAX_HEADERS:
            raise NotHttpError("its headers, trailers or chunk sizes are too long")

    def _add(self, data: bytes) -> bytes:
        """Copy bytes of the body to where they belong; returns those that are not part of it."""
        rest = memoryview(data)
        while rest and not self.is_over:
            room = self._free()[: len(rest)]
            room[:] = rest[: len(room)]
            rest = rest[len(room) :]
            self._fill(len(room))
        return bytes(rest)

    def _free(self) -> memoryview:
        if self._block is None:
            self._block, self._filled = self._memory.block(self._left), 0
        room = self._block[self._filled :]
        return room if self._left is None else room[: self._left]

    def _fill(self, size: int) -> None:
        self._filled += size
        self._received += size
        self._last_at = self._loop.time()
        if self._left is not None:
            self._left -= size
        if self._block is not None and self._filled == len(self._block):
            self._put_aside()
        if self._left == 0:
            self._finish()
        elif self._received >= self._wanted:
            self._wake()

    def _put_aside(self) -> None:
        if self._block is not None:
            self._whole.append((self._block, self._filled))
            self._block = None
            self.is_full = len(self._whole) + (self._in_use is not None) >= self._memory.blocks
            self._wake()

    def _finish(self) -> None:
        if self._error is None:
            self._put_aside()
        self.is_over, self.is_full = True, False
        self._parser = None
        self._wake()

    async def _until(self, is_there: Callable[[], bool]) -> None:
        while not (is_there() or self.is_over):
            # While nobody waited, it was not the server that kept silent.
            self._last_at = self._loop.time()
            self._waiter = self._loop.create_future()
            self._timer = self._loop.call_later(self._idle_timeout, self._look)
            try:
                await self._waiter
            finally:
                self._timer.cancel()
                self._waiter = self._timer = None
        if self._error is not None and not is_there():
            raise self._error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        left = self._last_at + self._idle_timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.end(TimeoutError("no headers within WORKER_CCFS__IDLE_TIMEOUT"))
