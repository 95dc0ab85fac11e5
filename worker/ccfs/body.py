"""The body of an answer as it comes in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from worker.ccfs.errors import after_headers
from worker.ccfs.exchange import Response


class Body:
    """Reads a body; each read returns as soon as there are bytes, and b"" at the end.

    Args:
        response: The response; nothing of its body was read yet.
        idle_timeout: Seconds that a read waits for a byte.
    """

    def __init__(self, response: Response, idle_timeout: float) -> None:
        self._response = response
        self._content = response.content
        self._idle_timeout = idle_timeout

    async def read(self, most: int) -> bytes:
        """Read up to `most` bytes.

        Raises:
            JobError: TIMEOUT, TRUNCATED, or UPSTREAM_ERROR when its framing is broken.
        """
        return await self._awaited(partial(self._content.read, most))

    async def head(self, size: int) -> bytes:
        """Read `size` bytes, or fewer if the body has no more. Raises as `read`."""
        head = b""
        while len(head) < size and (piece := await self.read(size - len(head))):
            head += piece
        return head

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the rest as it comes. Raises as `read`."""
        while chunk := await self._awaited(self._content.readany):
            yield chunk

    async def _awaited(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        with after_headers():
            if self._content.is_eof():
                # All of it has come, as with most small files: a timer would cost more than the read.
                return await read()
            self._response.look_for_end()
            async with asyncio.timeout(self._idle_timeout):
                return await read()
