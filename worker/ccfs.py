"""The client of CC-FS: one signed POST a file, its answer told apart, its body as a stream.

Sources of the rules: CC-FS "Downloading CDRs and Recording Indexes" (request, response, result codes),
its authentication "auth-v2" (see `worker.signing`), RFC 9110 for Retry-After and redirects.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiolimiter import AsyncLimiter
from pydantic_core import from_json
from yarl import URL

from schemas import DownloadJob, ErrorCode
from worker import signing
from worker.errors import JobError, one_line

DOWNLOAD_PATH = "/CCFS/resource/ccfs/downloadBillFile"
CONTENT_TYPE = "application/json; charset=UTF-8"
MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error's body that are read; CC-FS's own have a few hundred."""

_READ_BUFFER = 256 * 1024
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_HEAD_BYTES = 4
_HTTP_OK, _HTTP_UNAUTHORIZED = 200, 401
_FLOW_CONTROL_STATUSES = frozenset({403, 429, 502, 503, 504})
_MAX_RESULT_CODE = 32

RESULT_CODES: dict[str, ErrorCode] = {
    **dict.fromkeys(
        (
            "0300001",
            "0300002",
            "0300003",
            "0300004",
            "0300005",
            "0300006",
            "0300007",
            "0300010",
            "0300013",
        ),
        ErrorCode.REQUEST_REJECTED,
    ),
    **dict.fromkeys(("0300008", "0300009"), ErrorCode.FLOW_CONTROL),
    **dict.fromkeys(("0300011", "0300012"), ErrorCode.FILE_NOT_FOUND),
}
"""What CC-FS's result codes (vendor's page cec_07_0835) mean to a job; any other is an UPSTREAM_ERROR."""


@dataclass(frozen=True, slots=True)
class FileStream:
    """A file on its way.

    Attributes:
        announced_bytes: Its size by Content-Length; None when the server did not say.
        chunks: Its bytes as they come. Raises JobError TRUNCATED, TIMEOUT.
    """

    announced_bytes: int | None
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """That CC-FS answered.

    Attributes:
        status: The HTTP status.
        date: The time there by the Date header, to the second; None without a usable one.
    """

    status: int
    date: datetime | None


@asynccontextmanager
async def open_client(
    *,
    base_url: str,
    clock: Callable[[], datetime],
    connect_timeout: float,
    idle_timeout: float,
    tls: ssl.SSLContext | None = None,
    host_header: str | None = None,
    max_requests_per_second: float | None = None,
) -> AsyncIterator["CcfsClient"]:
    """Open a client with its pool of connections.

    Args:
        base_url: `https://ip:port` of CC-FS, without a path.
        clock: Gives the time, timezone-aware, that requests are signed with.
        connect_timeout: Seconds for name lookup, TCP and TLS together.
        idle_timeout: Seconds without a byte after which an answer counts as dead.
        tls: How to verify the server; None takes the system's authorities.
        host_header: The Host that CC-FS shall see, where a proxy makes it differ from `base_url`.
        max_requests_per_second: Bound on the requests of this client over time; None for none.
    """
    async with aiohttp.ClientSession(
        # Not bounded here: the worker's concurrency is the bound.
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        # No limit on the whole transfer, which would cut large files on slow lines: the job has a deadline.
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_read=idle_timeout),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_BUFFER,
    ) as http:
        limiter = _limiter(max_requests_per_second) if max_requests_per_second else None
        yield CcfsClient(http, URL(base_url), host_header or host_and_port(base_url), clock, limiter)


class CcfsClient:
    """Asks CC-FS for files. Made by `open_client`."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base_url: URL,
        host: str,
        clock: Callable[[], datetime],
        limiter: AsyncLimiter | None,
    ) -> None:
        self._http = http
        self._url = base_url.with_path(DOWNLOAD_PATH)
        self._host = host
        self._clock = clock
        self._limiter = limiter

    @asynccontextmanager
    async def open(self, job: DownloadJob, secret_key: str) -> AsyncIterator[FileStream]:
        """Request a job's file, signed anew, and give its body once the answer proved to be a file.

        Raises:
            JobError: Every other answer and every failure, by the contract's error table.
        """
        if self._limiter is not None:
            await self._limiter.acquire()
        async with self._post(job, secret_key) as response:
            yield await self._file_in(response)

    async def probe(self) -> Answer:
        """Ask for any answer at all, unsigned.

        Raises:
            JobError: UPSTREAM_UNREACHABLE, TIMEOUT when none comes.
        """
        with _before_headers():
            response = await self._http.get(self._url, allow_redirects=False)
        response.close()
        return Answer(response.status, _date(response.headers.get("Date")))

    @asynccontextmanager
    async def _post(self, job: DownloadJob, secret_key: str) -> AsyncIterator[aiohttp.ClientResponse]:
        request = signing_request(job, self._host)
        headers = self._headers(request, job.app_id, secret_key)
        with _before_headers():
            # No redirects: one would carry the signed headers elsewhere and turn the POST into a GET.
            response = await self._http.post(
                self._url, data=request.body, headers=headers, allow_redirects=False
            )
        try:
            yield response
        finally:
            # An answer that was not read to its end takes its connection with it.
            response.release()

    def _headers(self, request: signing.Request, app_id: str, secret_key: str) -> dict[str, str]:
        authorization = signing.authorization(
            request,
            access_key=app_id,
            secret_key=secret_key,
            timestamp=signing.format_timestamp(self._clock()),
        )
        return {
            **request.headers,
            "Authorization": authorization,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }

    async def _file_in(self, response: aiohttp.ClientResponse) -> FileStream:
        if response.status != _HTTP_OK:
            raise self._refusal(response, await _bounded_body(response, b""))
        with _after_headers():
            head = await _read_head(response.content)
        if head.startswith(_ZIP_MAGIC):
            return FileStream(response.content_length, _chunks(head, response.content))
        if head.lstrip()[:1] == b"{" or "json" in response.content_type:
            with _after_headers():
                body = await _bounded_body(response, head)
            raise _business_error(response, body)
        raise _not_a_file(response, head)

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> JobError:
        result_code, description = read_result(body)
        code = RESULT_CODES.get(result_code or "")
        if code is None or response.status == _HTTP_UNAUTHORIZED:
            code = code_of_status(response.status)
        return JobError(
            code,
            _describe(f"CC-FS answered HTTP {response.status}", result_code, description),
            result_code=result_code,
            http_status=response.status,
            retry_after=parse_retry_after(response.headers.get("Retry-After"), self._clock()),
        )


def _limiter(per_second: float) -> AsyncLimiter:
    # A bucket holds one second's requests, and never less than one request.
    return AsyncLimiter(max(per_second, 1), max(1 / per_second, 1))


def host_and_port(base_url: str) -> str:
    """The Host value `ip:port` that CC-FS checks: the port is there even when it is the scheme's default."""
    url = URL(base_url)
    return f"{url.host_subcomponent}:{url.port}"


def signing_request(job: DownloadJob, host: str) -> signing.Request:
    """What is sent to ask for a job's file, as far as it is signed; `host` as from `host_and_port`."""
    body = request_body(job)
    headers = {"Host": host, "Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))}
    return signing.Request(method="POST", path=DOWNLOAD_PATH, headers=headers, body=body)


def request_body(job: DownloadJob) -> bytes:
    """The request's JSON, serialised once: these bytes are signed and these bytes are sent."""
    fields = {"request": {"version": "2.0"}, "msgBody": {"billFileName": job.bill_file_name}}
    return json.dumps(fields, separators=(",", ":")).encode()


def code_of_status(status: int) -> ErrorCode:
    """What an HTTP status other than 200 means to a job when no known result code says more."""
    if status == _HTTP_UNAUTHORIZED:
        return ErrorCode.UNAUTHORIZED
    if status in _FLOW_CONTROL_STATUSES:
        return ErrorCode.FLOW_CONTROL
    return ErrorCode.REQUEST_REJECTED if 400 <= status < 500 else ErrorCode.UPSTREAM_ERROR  # noqa: PLR2004


def read_result(body: bytes) -> tuple[str | None, str]:
    """Find `resultCode` and its description in an error body, the deprecated `response` object included."""
    try:
        fields = from_json(body)
    except ValueError:
        return None, ""
    if not isinstance(fields, dict):
        return None, ""
    nested = fields.get("response")
    nested = nested if isinstance(nested, dict) else {}
    code = fields.get("resultCode", nested.get("resultCode"))
    description = fields.get("resultDesc") or nested.get("resultMsg")
    if not isinstance(code, str | int) or isinstance(code, bool):
        return None, ""
    return one_line(str(code), _MAX_RESULT_CODE), description if isinstance(description, str) else ""


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    moment = _date(value)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _date(value: str | None) -> datetime | None:
    """Read a date of HTTP (RFC 9110, section 5.6.7), which is always in UTC."""
    try:
        moment = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


async def _read_head(content: aiohttp.StreamReader) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := await content.readany()):
        head += chunk
    return head


async def _chunks(head: bytes, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    yield head
    with _after_headers():
        async for chunk in content.iter_any():
            yield chunk


async def _bounded_body(response: aiohttp.ClientResponse, head: bytes) -> bytes:
    body = bytearray(head)
    try:
        while len(body) < MAX_ERROR_BODY and (chunk := await response.content.readany()):
            body += chunk
    except (aiohttp.ClientError, TimeoutError, OSError):
        # Beside an error status the status speaks for itself; under a 200 the caller must know.
        if response.status == _HTTP_OK:
            raise
    return bytes(body[:MAX_ERROR_BODY])


def _business_error(response: aiohttp.ClientResponse, body: bytes) -> JobError:
    result_code, description = read_result(body)
    if result_code is None:
        return JobError(
            ErrorCode.UPSTREAM_ERROR,
            "CC-FS answered JSON without a resultCode instead of a file",
            http_status=response.status,
        )
    return JobError(
        RESULT_CODES.get(result_code, ErrorCode.UPSTREAM_ERROR),
        _describe("CC-FS refused the download", result_code, description),
        result_code=result_code,
        http_status=response.status,
    )


def _describe(what: str, result_code: str | None, description: str) -> str:
    details = ", ".join(part for part in (result_code and f"resultCode {result_code}", description) if part)
    return f"{what}: {details}" if details else what


def _not_a_file(response: aiohttp.ClientResponse, head: bytes) -> JobError:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        code, reason = ErrorCode.UPSTREAM_ERROR, f"is encoded ({encoding}) although identity was asked for"
    elif "octet-stream" in response.content_type or "zip" in response.content_type:
        code, reason = ErrorCode.CORRUPT_ARCHIVE, "is not a zip file" if head else "is empty"
    else:
        code, reason = ErrorCode.UPSTREAM_ERROR, f"has the content type {response.content_type}"
    return JobError(code, f"the body that CC-FS sent {reason}", http_status=response.status)


@contextmanager
def _before_headers() -> Iterator[None]:
    try:
        yield
    except TimeoutError as exc:
        raise JobError(ErrorCode.TIMEOUT, f"CC-FS did not answer in time: {exc}") from exc
    except aiohttp.ClientResponseError as exc:
        raise JobError(ErrorCode.UPSTREAM_ERROR, f"CC-FS did not answer valid HTTP: {exc.message}") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise JobError(ErrorCode.UPSTREAM_UNREACHABLE, f"CC-FS cannot be reached: {exc}") from exc


@contextmanager
def _after_headers() -> Iterator[None]:
    try:
        yield
    except TimeoutError as exc:
        raise JobError(ErrorCode.TIMEOUT, f"CC-FS stopped sending: {exc}", http_status=_HTTP_OK) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise JobError(ErrorCode.TRUNCATED, f"the body broke off: {exc}", http_status=_HTTP_OK) from exc
