"""Sends a request and reads the headers of its response, one layer below aiohttp's session.

A session makes a request, a response and three timers for each exchange. Here the bytes of a request go to a
connection of aiohttp's pool as they are, and aiohttp's parser reads the answer.

What this relies on, of aiohttp: `ResponseHandler`, the protocol of its connections, parses one response
after each `set_response_params`, and returns headers and body from `read`.
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
"""About how many bytes aiohttp reads ahead: all of most small files, little of a body to be taken over."""
_MALFORMED = "CC-FS did not answer valid HTTP: the framing of its body is broken"
_MAX_LENGTH_DIGITS = 18
"""As many as always fit into 64 bits, signed. int() refuses more than 4,300 (sys.set_int_max_str_digits)."""


class Response:
    """A response whose headers were read. Made by `exchange`; to be closed.

    Attributes:
        status: The HTTP status.
        headers: The headers.
        content: The body; nothing of it was read yet.
        connection: What it comes on; returned to the pool when all of the body was received.
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
            # An absurd Content-Length counts as none, too, and the body that it announced may still come.
            connection.protocol.force_close()
        content.on_eof(self._release)

    @property
    def content_length(self) -> int | None:
        """The size of the body by Content-Length, None without that.

        Raises:
            JobError: UPSTREAM_ERROR when it has more digits than a size can have.
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
        """Make a malformed body end in an error: aiohttp only closes its connection, and its reader waits."""
        is_open = self.connection.transport is not None
        if not (is_open or self.content.is_eof() or self.content.exception()):
            self.content.set_exception(JobError(ErrorCode.UPSTREAM_ERROR, _MALFORMED))

    def close(self) -> None:
        """Close the connection, unless it was returned to the pool."""
        self._forget()
        self.connection.close()

    def _release(self) -> None:
        self._forget()
        self.connection.release()

    def _forget(self) -> None:
        # The connection outlives this response, and would keep it in memory.
        if self._closed is not None:
            self._closed.remove_done_callback(self._end)

    def _end(self, _: asyncio.Future[None]) -> None:
        self.look_for_end()


async def exchange(connection: "Connection", request: bytes, *, idle_timeout: float) -> Response:
    """Send a request and read the headers of its response.

    Args:
        connection: Used by nothing else; closed when this fails.
        request: The bytes of the request.
        idle_timeout: Seconds until the headers are there.

    Raises:
        aiohttp.ClientError: The connection broke.
        aiohttp.SocketTimeoutError: The headers did not come in time.
        aiohttp.http_exceptions.HttpProcessingError: The answer is not HTTP.
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
    """Return whether a response precedes the final one (RFC 9110, section 15.2)."""
    return 100 <= status < 200 and status != 101  # noqa: PLR2004 - the RFC's
