"""Classifies CC-FS's responses by status, content type and first bytes, never by one of them alone. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic_core import from_json

from schemas import ErrorCode
from worker.errors import JobError, one_line

HTTP_OK = 200
HEAD_BYTES = 4
"""How many first bytes of a body show whether it is a zip."""
LONGEST_RETRY_AFTER = 86_400.0
"""Seconds; a Retry-After that asks for more counts as this."""

_HTTP_UNAUTHORIZED = 401
_FLOW_CONTROL_STATUSES = frozenset({403, 429, 502, 503, 504})
# APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.16: the first entry, or the end record of an empty archive.
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_BINARY_TYPES = frozenset({"", "application/octet-stream", "application/zip", "application/x-zip-compressed"})
_BOM = b"\xef\xbb\xbf"
_SUCCESS = "0"
_MAX_RESULT_CODE = 32

RESULT_CODES: dict[str, ErrorCode] = {
    "0300001": ErrorCode.REQUEST_REJECTED,
    "0300002": ErrorCode.REQUEST_REJECTED,
    "0300003": ErrorCode.REQUEST_REJECTED,
    "0300004": ErrorCode.REQUEST_REJECTED,
    "0300005": ErrorCode.REQUEST_REJECTED,
    "0300006": ErrorCode.REQUEST_REJECTED,
    "0300007": ErrorCode.REQUEST_REJECTED,
    "0300008": ErrorCode.FLOW_CONTROL,
    "0300009": ErrorCode.FLOW_CONTROL,
    "0300010": ErrorCode.REQUEST_REJECTED,
    "0300011": ErrorCode.FILE_NOT_FOUND,
    "0300012": ErrorCode.FILE_NOT_FOUND,
    "0300013": ErrorCode.REQUEST_REJECTED,
}
"""CC-FS's result codes (vendor's page cec_07_0835) as error codes; any other is an UPSTREAM_ERROR."""


def is_file(status: int, head: bytes) -> bool:
    """Return whether a response is a file, by its status and the first `HEAD_BYTES` of its body.

    Its content type does not count: CC-FS sends errors under the type of a file, and a proxy may give a file
    any type. A body that begins like a zip is still checked as a whole.
    """
    return status == HTTP_OK and head.startswith(_ZIP_MAGIC)


def refusal(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> JobError:
    """Classify a response that is no file, by the contract's error table.

    Args:
        status: Its HTTP status.
        headers: Its headers as they came, by lower-case name.
        body: Its body, or the beginning of a long one.
        now: The time that a Retry-After date is counted from, timezone-aware.
    """
    result_code, description = read_result(body)
    code, meaning = _meaning(status, headers, body, result_code)
    details = ", ".join(part for part in (result_code and f"resultCode {result_code}", description) if part)
    return JobError(
        code,
        f"{meaning}: {details}" if details else meaning,
        result_code=result_code,
        http_status=status,
        retry_after=parse_retry_after(headers.get("retry-after", ""), now),
    )


def code_of_status(status: int) -> ErrorCode:
    """Return the error code of an HTTP status other than 200, for a response without a known result code."""
    if status == _HTTP_UNAUTHORIZED:
        return ErrorCode.UNAUTHORIZED
    if status in _FLOW_CONTROL_STATUSES:
        return ErrorCode.FLOW_CONTROL
    return ErrorCode.REQUEST_REJECTED if 400 <= status < 500 else ErrorCode.UPSTREAM_ERROR  # noqa: PLR2004


def read_result(body: bytes) -> tuple[str | None, str]:
    """Find `resultCode` and its description in an error body, the deprecated `response` object included."""
    try:
        fields = from_json(body.removeprefix(_BOM))
    except ValueError:
        return None, ""
    if not isinstance(fields, dict):
        return None, ""
    nested = fields.get("response")
    nested = nested if isinstance(nested, dict) else {}
    code = _text(fields.get("resultCode")) or _text(nested.get("resultCode"))
    description = _text(fields.get("resultDesc")) or _text(nested.get("resultMsg"))
    return one_line(code, _MAX_RESULT_CODE) or None, description


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either form (RFC 9110, section 10.2.3).

    Between 0 and `LONGEST_RETRY_AFTER`; None for a header of neither form. A date counts from `now`, which is
    timezone-aware.
    """
    text = value.strip()
    # By isdigit alone "²" is a number, which float() refuses.
    if text.isascii() and text.isdigit():
        seconds = float(text)
    elif (moment := read_date(text)) is not None:
        seconds = (moment - now).total_seconds()
    else:
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def read_date(value: str) -> datetime | None:
    """Read an HTTP date (RFC 9110, section 5.6.7), which is always in UTC; None if it is not one."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # The zone "-0000" gives a time without one.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _meaning(
    status: int, headers: Mapping[str, str], body: bytes, result_code: str | None
) -> tuple[ErrorCode, str]:
    known = RESULT_CODES.get(result_code or "")
    if status != HTTP_OK:
        # A 401 is always about the key: it makes the worker read the key again.
        if known is None or status == _HTTP_UNAUTHORIZED:
            known = code_of_status(status)
        return known, f"CC-FS answered HTTP {status}"
    if result_code == _SUCCESS:
        return ErrorCode.UPSTREAM_ERROR, "CC-FS reported success but sent no file"
    if result_code is not None:
        return known or ErrorCode.UPSTREAM_ERROR, "CC-FS refused the download"
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = headers.get("content-encoding", "")
    if encoding.strip().lower() not in {"", "identity"}:
        encoding = one_line(encoding, _MAX_RESULT_CODE)
        code, reason = ErrorCode.UPSTREAM_ERROR, f"is encoded ({encoding}) although identity was asked for"
    elif "json" in content_type or body.removeprefix(_BOM).lstrip().startswith(b"{"):
        code, reason = ErrorCode.UPSTREAM_ERROR, "is JSON without a resultCode"
    elif content_type in _BINARY_TYPES:
        code, reason = ErrorCode.CORRUPT_ARCHIVE, "is not a zip file" if body else "is empty"
    else:
        code, reason = ErrorCode.UPSTREAM_ERROR, f"is not a zip file but {content_type}"
    return code, f"the body that CC-FS sent {reason}"


def _text(value: object) -> str:
    """Return a field that should be a string; a gateway before CC-FS may send codes as numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)
