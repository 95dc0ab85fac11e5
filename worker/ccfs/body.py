"""The body of an answer as it comes in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import aiohttp

from schemas import ErrorCode
from worker.ccfs.faults import after_headers
from worker.errors import JobError

_MALFORMED = "CC-FS did not answer valid HTTP: the framing of its body is broken"


class Body:
    """Reads a body; each read gives what there is as soon as there is anything, b"" at the end.

    Args:
        response: The answer, of which nothing was read yet.
        idle_timeout: Seconds that a read waits for a byte. aiohttp has a timer of its own for that,
            which it drops on some ways into an error.
    """

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout: float) -> None:
        self._content = response.content
        self._idle_timeout = idle_timeout
        _end_with_connection(response)

    async def read(self, most: int) -> bytes:
        """Read up to so many bytes.

        Raises:
            JobError: TIMEOUT, TRUNCATED.
        """
        return await self._awaited(partial(self._content.read, most))

    async def head(self, size: int) -> bytes:
        """Read so many bytes, or fewer if the body has no more. Raises as `read`."""
        head = b""
        while len(head) < size and (piece := await self.read(size - len(head))):
            head += piece
        return head

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the rest as it comes. Raises as `read`."""
        while chunk := await self._awaited(self._content.readany):
            yield chunk

    async def _awaited(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        with after_headers():
            if self._content.is_eof():
                # All has come, as most small files have: a timer would cost more than the read.
                return await read()
            async with asyncio.timeout(self._idle_timeout):
                return await read()


def _end_with_connection(response: aiohttp.ClientResponse) -> None:
    """Make a malformed body end in an error: aiohttp only closes its connection and lets its reader wait."""
    protocol = None if response.connection is None else response.connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is None:
        return
    content = response.content

    def end(closed: asyncio.Future[None]) -> None:
        closed.exception()
        if not content.is_eof() and content.exception() is None:
            content.set_exception(JobError(ErrorCode.UPSTREAM_ERROR, _MALFORMED))

    closed.add_done_callback(end)
