"""The requests to CC-FS and their answers."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import aiohttp
from aiolimiter import AsyncLimiter
from yarl import URL

from schemas import DownloadJob
from worker.ccfs.answers import HEAD_BYTES, HTTP_OK, NotAFile, is_file, read_date, refusal
from worker.ccfs.body import Body
from worker.ccfs.errors import after_headers, before_headers
from worker.ccfs.exchange import Response, exchange
from worker.ccfs.pool import Pool, open_pool
from worker.ccfs.request import download_bytes, host_and_port, probe_bytes
from worker.ccfs.takeover import Takeovers
from worker.core.ports import Incoming, no_takeover
from worker.core.progress import Progress
from worker.errors import JobError

MAX_ERROR_BODY = 64 * 1024
"""Bytes read of a body that is no file; CC-FS's own errors have a few hundred."""

_BLOCK_BYTES = 256 * 1024
_BURST_SECONDS = 0.1
"""How much of its allowance a client may use in a burst."""


@dataclass(frozen=True, slots=True)
class FileStream:
    """A file on its way.

    Attributes:
        announced_bytes: Its size by Content-Length; None when the server did not say.
        chunks: Its bytes as they come. Raises JobError TRUNCATED, TIMEOUT.
        take_over: Lets threads receive the same bytes, as long as none was taken from `chunks`; None where
            that is not possible.
    """

    announced_bytes: int | None
    chunks: AsyncIterator[bytes]
    take_over: Callable[[], Awaitable[Incoming | None]] = no_takeover


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe learned from any answer of CC-FS.

    Attributes:
        status: The HTTP status.
        date: The time there by the Date header, to the second; None without a usable one.
    """

    status: int
    date: datetime | None


@asynccontextmanager
async def open_client(  # noqa: PLR0913 - most of them are settings, each with a name of its own
    *,
    base_url: str,
    clock: Callable[[], datetime],
    connect_timeout: float,
    idle_timeout: float,
    tls: ssl.SSLContext | None = None,
    host_header: str | None = None,
    max_requests_per_second: float | None = None,
    block_bytes: int = _BLOCK_BYTES,
    reuse_after_large: bool = True,
) -> AsyncIterator["CcfsClient"]:
    """Open a client with its pool of connections.

    Args:
        base_url: `https://ip:port` of CC-FS, without a path.
        clock: Gives the time, timezone-aware, that requests are signed with.
        connect_timeout: Seconds for name lookup, TCP and TLS together.
        idle_timeout: Seconds without a byte after which an answer counts as dead; also the time that
            an answer's headers, or a body that is no file, may take as a whole.
        tls: How to verify the server; None takes the system's authorities.
        host_header: The Host that CC-FS has to see, where a proxy makes it differ from `base_url`.
        max_requests_per_second: Bound on the requests of this client over time; None for none.
        block_bytes: What a thread receives of a large file before it uses it.
        reuse_after_large: Whether a connection serves other requests after a large file, too. Over TLS it
            takes half a mebibyte more during the transfer.
    """
    async with open_pool(URL(base_url), tls, connect_timeout) as pool:
        yield CcfsClient(
            pool,
            host=host_header or host_and_port(base_url),
            clock=clock,
            limiter=_limiter(max_requests_per_second) if max_requests_per_second else None,
            idle_timeout=idle_timeout,
            takeovers=Takeovers(idle_timeout=idle_timeout, block_bytes=block_bytes, reuse=reuse_after_large),
        )


class CcfsClient:
    """Asks CC-FS for files. Made by `open_client`."""

    def __init__(
        self,
        pool: Pool,
        *,
        host: str,
        clock: Callable[[], datetime],
        limiter: AsyncLimiter | None,
        idle_timeout: float,
        takeovers: Takeovers,
    ) -> None:
        self._pool = pool
        self._host = host
        self._clock = clock
        self._limiter = limiter
        self._idle_timeout = idle_timeout
        self._takeovers = takeovers

    @property
    def certificate_end(self) -> float:
        """When the certificate ends that CC-FS showed last, in Unix seconds; NaN before any."""
        return self._pool.certificate_end

    @asynccontextmanager
    async def open(
        self, job: DownloadJob, secret_key: str, progress: Progress | None = None
    ) -> AsyncIterator[FileStream]:
        """Request a job's file, with a new signature, and yield its body if the response is a file.

        Args:
            job: The file.
            secret_key: Signs the request.
            progress: Records that CC-FS was asked and what it answered, if anybody reads it.

        Raises:
            JobError: Every other response and every failure, by the contract's error table.
        """
        progress = progress or Progress()
        with before_headers():
            response = await self._ask(job, secret_key, progress)
        progress.http_status = response.status
        try:
            body = Body(response, self._idle_timeout)
            head = await body.head(HEAD_BYTES) if response.status == HTTP_OK else b""
            if not is_file(response.status, head):
                raise await self._refusal(response, head, body)
            with ExitStack() as taken_over:
                async with aclosing(_chunks(head, body)) as chunks:
                    take = partial(self._take_over, taken_over, response, head)
                    yield FileStream(response.content_length, chunks, take)
        except JobError as error:
            # Errors of the body and of the storage carry CC-FS's status, too.
            error.http_status = response.status
            raise
        finally:
            # A body that was not read to its end takes its connection along.
            response.close()

    async def probe(self) -> Answer:
        """Send an unsigned request to see whether CC-FS answers at all.

        Raises:
            JobError: UPSTREAM_UNREACHABLE or TIMEOUT without an answer, UPSTREAM_ERROR when it is not HTTP.
        """
        with before_headers():
            response = await self._exchange(lambda: probe_bytes(self._host))
        response.close()
        return Answer(response.status, read_date(response.headers.get("Date", "")))

    async def _take_over(self, taken_over: ExitStack, response: Response, head: bytes) -> Incoming | None:
        takeover = await self._takeovers.take(response, head)
        if takeover is not None:
            taken_over.enter_context(closing(takeover))
        return takeover

    async def _ask(self, job: DownloadJob, secret_key: str, progress: Progress) -> Response:
        def signed_now() -> bytes:
            progress.asked = True
            return download_bytes(job, self._host, secret_key=secret_key, now=self._clock())

        return await self._exchange(signed_now, self._limiter)

    async def _exchange(self, request: Callable[[], bytes], limiter: AsyncLimiter | None = None) -> Response:
        """Send a request, again if a reused connection turns out to be dead.

        Repeating it is safe: it changes nothing at CC-FS. Each round uses up one kept connection.
        """
        while True:
            if limiter is not None:
                await limiter.acquire()
            sent = request()
            connection, is_reused = await self._pool.take()
            try:
                return await exchange(connection, sent, idle_timeout=self._idle_timeout)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if not is_reused:
                    raise

    async def _refusal(self, response: Response, head: bytes, body: Body) -> JobError:
        answer = NotAFile(
            status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            content_encoding=response.headers.get("Content-Encoding", ""),
            retry_after=response.headers.get("Retry-After"),
            body=await self._beginning(response, head, body),
        )
        return refusal(answer, self._clock())

    async def _beginning(self, response: Response, head: bytes, body: Body) -> bytes:
        content = bytearray(head)
        try:
            with after_headers():
                # Against a body that trickles in, the idle timeout alone would never fire.
                async with asyncio.timeout(self._idle_timeout):
                    while piece := await body.read(MAX_ERROR_BODY - len(content)):
                        content += piece
        except JobError:
            # Any other status is enough to classify the response.
            if response.status == HTTP_OK:
                raise
        return bytes(content)


def _limiter(per_second: float) -> AsyncLimiter:
    burst = max(1, per_second * _BURST_SECONDS)
    return AsyncLimiter(burst, burst / per_second)


async def _chunks(head: bytes, body: Body) -> AsyncGenerator[bytes, None]:
    yield head
    async for chunk in body.chunks():
        yield chunk
