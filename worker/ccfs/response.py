"""A response as it comes in: its head, and its body in blocks. Without I/O of its own.

`worker.ccfs.framing` reads the head and chunked framing; all other bytes go straight into blocks.
"""

import asyncio
import mmap
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

from worker.ccfs.errors import NotHttpError, UnansweredError, after_headers
from worker.ccfs.framing import SWITCHED, Framing

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
        """Return a block for a body that has `left` bytes more; None when that is unknown."""
        if left is not None and left < self.block_bytes:
            return memoryview(bytearray(left))
        if self._spare:
            return self._spare.pop()
        return memoryview(mmap.mmap(-1, self.block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def recycle(self, block: memoryview) -> None:
        """Take back a block. A view that anybody still reads would show bytes of another file."""
        if len(block) == self.block_bytes and len(self._spare) * self.block_bytes < _SPARE_BYTES:
            self._spare.append(block)


class Response:
    """A response. Made by `Connection.ask`, which puts bytes into `room` and has them taken in by `take`.

    Attributes:
        status: The HTTP status; 0 until the head is complete.
        headers: As `Framing.headers`, from then on.
        content_length: The size of the body by Content-Length; None without that.
        is_over: Whether all of it came, or nothing more will.
        is_full: Whether there is no room for more until a block is used.
        is_parsed: Whether the next bytes are parsed, so that what follows its end may come with it.

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
        self.headers: Mapping[str, str] = {}
        self.content_length: int | None = None
        self.is_over = self.is_full = False
        self.is_parsed = True
        self._resume = resume
        self._abort = abort
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = idle_timeout
        self._last_at = 0.0
        self._error: Exception | None = None
        self._framing = Framing()
        self._has_begun = False
        self._left: int | None = None
        self._received = self._filled = self._wanted = 0
        self._block: memoryview | None = None
        self._whole: deque[tuple[memoryview, int]] = deque()
        """Blocks to be used, and how many bytes are in them."""
        self._is_in_use = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def may_reuse(self) -> bool:
        """Whether the connection may serve another request once this is over."""
        return self._framing.may_reuse

    def room(self) -> memoryview:
        """Give the place for the next bytes."""
        return self._memory.scratch[:_HEAD_BYTES] if self.is_parsed else self._free()

    def take(self, size: int) -> None:
        """Take in what was put into `room`. Raises NotHttpError."""
        if not self.is_parsed:
            self._fill(size)
            return
        self._has_begun = True
        # A copy: the next connection that receives writes over it.
        data = bytes(self._memory.scratch[:size])
        while data and not self.status:
            data = self._framing.head(data)
            if self._framing.status:
                self._begin_body()
        if not self.is_parsed:
            self._add(data)
        elif data:
            for piece in self._framing.chunks(data):
                self._add(piece)
            if self._framing.is_whole:
                self._finish()

    def end(self, error: Exception | None) -> None:
        """End it: nothing more comes, because of an error or because the connection was closed (None)."""
        if self.is_over:
            return
        if not self.status and not isinstance(error, TimeoutError | NotHttpError):
            words = "the server hung up before the headers of its answer were complete"
            kind = ConnectionError if self._has_begun else UnansweredError
            self._error = kind(str(error or words))
            self._error.__cause__ = error
        elif error is None and (self._framing.is_chunked or self._left is not None):
            end = "its last chunk" if self._left is None else f"the announced {self.content_length}"
            missing = "" if self._left is None else f"{self._left} bytes "
            self._error = ConnectionError(f"CC-FS closed the connection {missing}before {end}")
        else:
            self._error = error
        self._framing.may_reuse = False
        self._finish()

    async def head(self) -> None:
        """Wait for the head. Raises OSError, TimeoutError, NotHttpError, UnansweredError."""
        await self._until(lambda: self.status > 0)

    async def at_least(self, size: int) -> None:
        """Wait until that many bytes of the body came, or all of it; at most a block. Raises as `head`."""
        self._wanted = size
        await self._until(lambda: self._received >= size)

    def peek(self, size: int) -> bytes:
        """Return the first bytes of a body of which no chunk was taken, as far as they came."""
        first = self._whole[0][0] if self._whole else self._block
        return b"" if first is None else bytes(first[: min(size, self._received)])

    async def chunks(self) -> AsyncGenerator[memoryview, None]:
        """Yield the body; each chunk is valid until the next is asked for. Raises as `after_headers`."""
        self._wanted = sys.maxsize
        with after_headers():
            while await self._until(lambda: bool(self._whole)):
                block, size = self._whole.popleft()
                self._is_in_use = True
                yield block[:size]
                self._memory.recycle(block)
                self._is_in_use = False
                if self.is_full:
                    self.is_full = False
                    self._resume()

    def close(self) -> None:
        """End its connection, unless all of it came: the rest may be gigabytes away."""
        if self._error is not None or not self.is_over:
            self._abort()

    def _begin_body(self) -> None:
        status = self._framing.status
        if 100 <= status < 200 and status != SWITCHED:  # noqa: PLR2004 - RFC 9110, section 15.2
            # The answer itself is still to come, as after 103 (early hints).
            self._framing = Framing()
            return
        self.status, self.headers = status, self._framing.headers
        self._wake()
        self._left = self.content_length = self._framing.body_length(has_body=self.has_body)
        self.is_parsed = self._framing.is_chunked
        if self._left == 0:
            self._finish()

    def _add(self, data: bytes) -> None:
        """Copy bytes of the body to where they belong."""
        rest = memoryview(data)
        while rest and not self.is_over:
            room = self._free()[: len(rest)]
            room[:] = rest[: len(room)]
            rest = rest[len(room) :]
            self._fill(len(room))
        if rest:
            # They come behind its end: nobody asked for them.
            self._framing.may_reuse = False

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
            self.is_full = len(self._whole) + self._is_in_use >= self._memory.blocks
            self._wake()

    def _finish(self) -> None:
        if self._error is None:
            self._put_aside()
        self.is_over, self.is_full = True, False
        self._wake()

    async def _until(self, is_there: Callable[[], bool]) -> bool:
        """Wait for something, or for the end; returns which. Raises what ended it too early."""
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
        if is_there():
            return True
        if self._error is not None:
            raise self._error
        return False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        # Not set anew for each byte: a timer costs more than a look at the clock.
        left = self._last_at + self._idle_timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.end(TimeoutError("no headers within WORKER_CCFS__IDLE_TIMEOUT"))
