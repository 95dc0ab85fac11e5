"""Decides whether CC-FS would serve a request: by its signature, its form and its date."""

import hmac
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple
from urllib.parse import parse_qsl

from pydantic import TypeAdapter, ValidationError

from schemas import AppId
from worker.ccfs import signing
from worker.errors import JobError
from worker.simulator.faults import ResultCode, StatusCode

DOWNLOAD_PATH = "/CCFS/resource/ccfs/downloadBillFile"

_TIMESTAMP = "%Y-%m-%dT%H:%M:%SZ"
_VERSION = "2.0"
_MAX_VERSION = 32
_MIN_NAME, _MAX_NAME = len("yyyyMMdd_1.zip"), 49
_NAME = re.compile(r"[0-9]{8}_[A-Za-z0-9-]{1,36}\.zip")
_CONTENT_TYPE = re.compile(r"application/json; ?charset=utf-8", re.IGNORECASE)
_APP_ID: TypeAdapter[str] = TypeAdapter(AppId)


class RefusedError(Exception):
    """CC-FS would not serve this request.

    Attributes:
        answer: CC-FS's answer.
    """

    def __init__(self, answer: ResultCode | StatusCode) -> None:
        super().__init__(answer.text)
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """A request as received.

    Attributes:
        method: The HTTP method.
        target: The path, and the query if any, as received.
        headers: Names and values as received; repeated headers are repeated.
        body: The body.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header; None when it is missing or repeated."""
        values = [value for key, value in self.headers if key.lower() == name]
        return values[0] if len(values) == 1 else None


class _Authorization(NamedTuple):
    """The parts of the Authorization header."""

    access_key: str
    timestamp: str
    signed_headers: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The contents of an admitted request.

    Attributes:
        app_id: The account that signed it.
        bill_file_name: The file it asks for.
        signed_at: When it was signed, according to its header.
    """

    app_id: str
    bill_file_name: str
    signed_at: datetime


def admit(
    request: RawRequest,
    *,
    secret_key: Callable[[str], str],
    now: datetime,
    max_skew: float,
    host: str | None = None,
) -> Admitted:
    """Check a request.

    Args:
        request: The request.
        secret_key: Gives an account's key; raises JobError when there is none.
        now: The time at the server.
        max_skew: Seconds that the request's time may differ from it.
        host: The Host that requests must have; None takes any.

    Raises:
        RefusedError: CC-FS would not serve it.
    """
    path, _, _ = request.target.partition("?")
    if path != DOWNLOAD_PATH:
        raise RefusedError(StatusCode(status=404, text=f"there is nothing at {path[:200]}"))
    if request.method != "POST":
        raise RefusedError(StatusCode(status=405, text="only POST is allowed here"))
    try:
        app_id, signed_at = _authenticate(request, secret_key, now, max_skew, host)
    except ValueError as exc:
        raise RefusedError(StatusCode(status=401, text=f"not authenticated: {exc}")) from None
    if not _CONTENT_TYPE.fullmatch(request.header("content-type") or ""):
        wanted = "the content type must be application/json; charset=UTF-8"
        raise RefusedError(StatusCode(status=415, text=wanted))
    return Admitted(app_id=app_id, bill_file_name=_read_body(request.body), signed_at=signed_at)


def claimed_account(request: RawRequest) -> str | None:
    """The account that a request names, even with a wrong signature; None when it names none."""
    try:
        return _APP_ID.validate_python(_parse(request.header("authorization")).access_key)
    except ValueError:
        return None


def _authenticate(
    request: RawRequest,
    secret_key: Callable[[str], str],
    now: datetime,
    max_skew: float,
    host: str | None,
) -> tuple[str, datetime]:
    claim = _parse(request.header("authorization"))
    signed_at = datetime.strptime(claim.timestamp, _TIMESTAMP).replace(tzinfo=UTC)
    if abs((now - signed_at).total_seconds()) > max_skew:
        raise ValueError(f"signed at {claim.timestamp}, and it is {signing.format_timestamp(now)} here")
    if host is not None and request.header("host") != host:
        raise ValueError(f"the Host must be {host}")
    signed = _signed_part(request, claim.signed_headers)
    try:
        key = secret_key(_APP_ID.validate_python(claim.access_key))
    except (JobError, ValidationError):
        raise ValueError("the access key is unknown") from None
    expected = signing.authorization(
        signed,
        access_key=claim.access_key,
        secret_key=key,
        timestamp=claim.timestamp,
    )
    # As bytes: for text that is not ASCII, compare_digest raises TypeError.
    if not hmac.compare_digest(expected.encode(), claim.value.encode()):
        raise ValueError("the signature is not that of what was received")
    return claim.access_key, signed_at


def _parse(value: str | None) -> _Authorization:
    parts = (value or "").split("/")
    if value is None or len(parts) != len(("scheme", *_Authorization._fields)) or parts[0] != signing.SCHEME:
        raise ValueError(f"the Authorization header must be one of scheme {signing.SCHEME}")
    _, access_key, timestamp, signed_headers, _ = parts
    names = tuple(signed_headers.split(";"))
    if list(names) != sorted({name.lower() for name in names}) or "host" not in names:
        raise ValueError("the signed headers must be lower-case, sorted, and host among them")
    return _Authorization(access_key, timestamp, names, value)


def _signed_part(request: RawRequest, names: Sequence[str]) -> signing.Request:
    headers = {}
    for name in names:
        value = request.header(name)
        if value is None:
            raise ValueError(f"{name} is signed and was not received, or more than once")
        headers[name] = value
    path, _, query = request.target.partition("?")
    return signing.Request(
        method=request.method,
        path=path,
        headers=headers,
        body=request.body,
        query=dict(parse_qsl(query, keep_blank_values=True)),
    )


def _read_body(body: bytes) -> str:
    """The file name in a request's body."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        # Deep nesting exhausts Python's parser.
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("msgBody"), dict):
        raise RefusedError(ResultCode(code="0300007"))
    head = fields.get("request")
    version = head.get("version") if isinstance(head, dict) else None
    name = fields["msgBody"].get("billFileName")
    is_date = False
    with suppress(ValueError):
        is_date = bool(datetime.strptime(str(name)[:8], "%Y%m%d").replace(tzinfo=UTC))
    for code, broken in chain(
        _text_rules(version, 1, _MAX_VERSION),
        [("0300006", version != _VERSION)],
        _text_rules(name, _MIN_NAME, _MAX_NAME),
        [("0300004", not _NAME.fullmatch(str(name))), ("0300010", not is_date)],
    ):
        if broken:
            raise RefusedError(ResultCode(code=code))
    return str(name)


def _text_rules(value: object, shortest: int, longest: int) -> Iterator[tuple[str, bool]]:
    yield "0300001", value is None
    yield "0300004", not isinstance(value, str)
    yield "0300002", value == ""
    yield "0300003", len(str(value)) > longest
    yield "0300005", len(str(value)) < shortest
