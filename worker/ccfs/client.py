"""The requests to CC-FS and their answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from aiolimiter import AsyncLimiter
from yarl import URL

from schemas import DownloadJob
from worker.ccfs.answers import HEAD_BYTES, HTTP_OK, is_file, read_date, refusal
from worker.ccfs.errors import UnansweredError, after_headers, before_headers
from worker.ccfs.hints import Admission, explain
from worker.ccfs.pool import Pool, Route
from worker.ccfs.request import download_bytes, host_and_port, probe_bytes
from worker.ccfs.response import Memory, Response
from worker.core.ports import Chunk
from worker.core.progress import Progress
from worker.errors import JobError

MAX_ERROR_BODY = 64 * 1024
"""Bytes read of a body that is no file; CC-FS's own errors have a few hundred."""

_BLOCK_BYTES = 1024 * 1024
_BURST_SECONDS = 0.1
"""Seconds of its allowance that a client may use in one burst."""


@dataclass(frozen=True, slots=True)
class FileStream:
    """Implements `worker.core.ports.Stream`; chunks raise JobError TRUNCATED, TIMEOUT, UPSTREAM_ERROR."""

    announced_bytes: int | None
    chunks: AsyncIterator[Chunk]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
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
    tls_server_name: str | None = None,
    proxy_url: str | None = None,
    host_header: str | None = None,
    keep_alive: bool = True,
    max_requests_per_second: float | None = None,
    block_bytes: int = _BLOCK_BYTES,
    blocks: int = 2,
) -> AsyncIterator["CcfsClient"]:
    """Open a client with its pool of connections.

    Args:
        base_url: `https://ip:port` of CC-FS, without a path.
        clock: Gives the time, timezone-aware, that requests are signed with.
        connect_timeout: Seconds for name lookup, TCP, proxy and TLS together.
        idle_timeout: Seconds without a byte after which an answer counts as dead; also the time that
            an answer's headers, or a body that is no file, may take as a whole.
        tls: How to verify the server; None takes the system's authorities.
        tls_server_name: The name that its certificate has, where that is not the one in `base_url`.
        proxy_url: `http://host:port` of a proxy that leads there by CONNECT.
        host_header: The Host that CC-FS has to see, where a proxy makes it differ from `base_url`.
        keep_alive: Whether a connection serves more than one request.
        max_requests_per_second: Bound on the requests of this client over time; None for none.
        block_bytes: The size of the chunks of a large file; 64 KiB at least.
        blocks: How many of them each file may take in memory.
    """
    url, proxy = URL(base_url), URL(proxy_url) if proxy_url else None
    host = url.host or ""
    route = Route(
        host=host,
        port=url.port or 0,
        tls=(tls or ssl.create_default_context()) if url.scheme == "https" else None,
        server_name=tls_server_name or host,
        proxy=None if proxy is None else (proxy.host or "", proxy.port or 0),
        connect_timeout=connect_timeout,
    )
    memory = Memory(max(MAX_ERROR_BODY, block_bytes), blocks)
    async with aclosing(Pool(route, memory, keep_alive=keep_alive)) as pool:
        yield CcfsClient(
            pool,
            host=host_header or host_and_port(base_url),
            clock=clock,
            max_requests_per_second=max_requests_per_second,
            idle_timeout=idle_timeout,
        )


class CcfsClient:
    """Asks CC-FS for files. Made by `open_client`."""

    def __init__(
        self,
        pool: Pool,
        *,
        host: str,
        clock: Callable[[], datetime],
        max_requests_per_second: float | None,
        idle_timeout: float,
    ) -> None:
        self._pool = pool
        self._host = host
        self._clock = clock
        self._limiter: AsyncLimiter | None = None
        if max_requests_per_second:
            burst = max(1, max_requests_per_second * _BURST_SECONDS)
            self._limiter = AsyncLimiter(burst, burst / max_requests_per_second)
        self._idle_timeout = idle_timeout
        self._admission = Admission()

    @property
    def turned_away(self) -> str:
        """One line that says so when CC-FS seems to let no request from this address in; empty otherwise."""
        return self._admission.problem

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

        def signed_now() -> bytes:
            progress.asked = True
            return download_bytes(
                job, self._host, secret_key=secret_key, now=self._clock(), keep_alive=self._pool.keep_alive
            )

        with before_headers():
            response = await self._exchange(signed_now, self._limiter)
        progress.http_status = response.status
        try:
            if response.status == HTTP_OK:
                with after_headers():
                    await response.at_least(HEAD_BYTES)
            self._admission.heard(response.status)
            if not is_file(response.status, response.peek(HEAD_BYTES)):
                error = await self._refusal(response)
                there, here = read_date(response.headers.get("date", "")), self._clock()
                location = response.headers.get("location", "")
                raise explain(
                    error, self._admission, job.bill_file_name, location=location, there=there, here=here
                )
            async with aclosing(response.chunks()) as chunks:
                yield FileStream(response.content_length, chunks)
        except JobError as error:
            # Whatever went wrong with its body: an error of the storage carries CC-FS's status, too.
            error.http_status = response.status
            raise
        finally:
            response.close()

    async def probe(self) -> ProbeAnswer:
        """Send an unsigned request to see whether CC-FS answers at all.

        Raises:
            JobError: UPSTREAM_UNREACHABLE or TIMEOUT without an answer, UPSTREAM_ERROR when it is not HTTP.
        """
        with before_headers():
            response = await self._exchange(lambda: probe_bytes(self._host))
        response.close()
        return ProbeAnswer(response.status, read_date(response.headers.get("date", "")))

    async def _exchange(self, request: Callable[[], bytes], limiter: AsyncLimiter | None = None) -> Response:
        """Send a request; once more, on a new connection, if a kept one closes without an answer.

        Repeating it is safe: it changes nothing at CC-FS.
        """
        for find in (self._pool.take, self._pool.make):
            if limiter is not None:
                await limiter.acquire()
            # Not before it may be sent: CC-FS refuses a signature that has waited.
            sent = request()
            connection = await find()
            try:
                return await connection.ask(sent, idle_timeout=self._idle_timeout)
            except UnansweredError:
                if not connection.is_kept:
                    raise
        raise AssertionError("a new connection is never a kept one")

    async def _refusal(self, response: Response) -> JobError:
        try:
            with after_headers():
                # Against a body that trickles in, the idle timeout alone would never fire.
                async with asyncio.timeout(self._idle_timeout):
                    await response.at_least(MAX_ERROR_BODY)
        except JobError:
            # Any other status is enough to classify the response.
            if response.status == HTTP_OK:
                raise
        return refusal(response.status, response.headers, response.peek(MAX_ERROR_BODY), self._clock())
