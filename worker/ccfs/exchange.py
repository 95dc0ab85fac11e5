"""A request and the headers of its answer, one layer below aiohttp's session.

A session makes a request, a response and three timers for each exchange. Here the bytes of a request go to a
connection of aiohttp's pool as they are, and aiohttp's parser reads the answer.

What this relies on, of aiohttp: `ResponseHandler`, the protocol of its connections, parses one answer
after each `set_response_params` and gives its headers and its body by `read`.
"""

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs

from schemas import ErrorCode
from worker.errors import JobError

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from multidict import CIMultiDictProxy

_READ_AHEAD = 64 * 1024
"""Bytes of a body around which aiohttp stops reading ahead of whoever takes them: all of most small files,
and little of what is about to go past it."""
_MALFORMED = "CC-FS did not answer valid HTTP: the framing of its body is broken"
_MAX_LENGTH_DIGITS = 18
"""So many fit into 64 bits, signed; int() itself refuses more than 4,300 (sys.set_int_max_str_digits)."""


class Response:
    """An answer whose headers were read. Made by `exchange`; to be closed.

    Attributes:
        status: The HTTP status.
        headers: The headers.
        content: The body, of which nothing was read yet.
        connection: What it comes on; given back by itself once all of the body was received.
    """

    def __init__(
        self, connection: "Connection", message: "RawResponseMessage", content: aiohttp.StreamReader
    ) -> None:
        self.status = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content = content
        self.connection = connection
        self._closed = None
        if connection.protocol is not None and not content.is_eof():
            self._closed = connection.protocol.closed
        if self._closed is not None:
            self._closed.add_done_callback(self._end)
        if content is aiohttp.EMPTY_PAYLOAD and connection.protocol is not None:
            # An absurd Content-Length, too, counts as none at all, and what it announced may yet come.
            connection.protocol.force_close()
        content.on_eof(self._release)

    @property
    def content_length(self) -> int | None:
        """The size of the body by Content-Length, None without that.

        Raises:
            JobError: UPSTREAM_ERROR: it has more digits than a size can have.
        """
        length = self.headers.get(hdrs.CONTENT_LENGTH)
        if length is None:
            return None
        if len(length) > _MAX_LENGTH_DIGITS:
            raise JobError(
                ErrorCode.UPSTREAM_ERROR, f"CC-FS sent a Content-Length of {len(length)} characters"
            )
        return int(length)

    def look_for_end(self) -> None:
        """Make a malformed body end in an error: aiohttp closes its connection, and lets its reader wait."""
        is_open = self.connection.transport is not None
        if not (is_open or self.content.is_eof() or self.content.exception()):
            self.content.set_exception(JobError(ErrorCode.UPSTREAM_ERROR, _MALFORMED))

    def close(self) -> None:
        """Hang up, unless the connection was given back."""
        self._forget()
        self.connection.close()

    def _release(self) -> None:
        self._forget()
        self.connection.release()

    def _forget(self) -> None:
        # The connection outlives this answer, and would keep it.
        if self._closed is not None:
            self._closed.remove_done_callback(self._end)

    def _end(self, _: asyncio.Future[None]) -> None:
        self.look_for_end()


async def exchange(connection: "Connection", request: bytes, *, idle_timeout: float) -> Response:
    """Send a request and read the headers of its answer.

    Args:
        connection: Serves nothing else meanwhile; closed when this fails.
        request: The bytes of the request.
        idle_timeout: Seconds until the headers are there.

    Raises:
        aiohttp.ClientError: The connection broke.
        aiohttp.SocketTimeoutError: The headers did not come in time.
        aiohttp.http_exceptions.HttpProcessingError: What came is no HTTP.
    """
    try:
        async with asyncio.timeout(idle_timeout):
            return await _answer(connection, request)
    except TimeoutError as exc:
        connection.close()
        raise aiohttp.SocketTimeoutError from exc
    except BaseException:
        connection.close()
        raise


async def _answer(connection: "Connection", request: bytes) -> Response:
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=_READ_AHEAD)
    transport.write(request)
    while True:
        message, content = await protocol.read()
        if not _is_informational(message.code):
            return Response(connection, message, content)


def _is_informational(status: int) -> bool:
    """Whether an answer precedes the one that counts (RFC 9110, section 15.2)."""
    return 100 <= status < 200 and status != 101  # noqa: PLR2004 - the RFC's
