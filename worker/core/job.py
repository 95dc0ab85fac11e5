"""Reads a message of the job queue: which file, for which account, at which attempt."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from schemas import MAX_BODY_BYTES, AppId, BillFileName, DownloadJob

ATTEMPT_HEADER = "x-attempt"
HELD_HEADER = "x-held-since"
REFUSED_HEADER = "x-refused-since"
TRACE_HEADERS = ("traceparent", "tracestate")
READ_HEADERS = (ATTEMPT_HEADER, HELD_HEADER, REFUSED_HEADER, *TRACE_HEADERS)
"""The headers of a job that are read."""

_MAX_ATTEMPT = 1_000_000
_MAX_MOMENT = 40
"""Characters of a time that is read."""
_MAX_TRACESTATE = 512
"""Characters of a `tracestate` that everybody should propagate (W3C Trace Context, section 3.3.1.5)."""
_APP_ID: TypeAdapter[str] = TypeAdapter(AppId)
_BILL_FILE_NAME: TypeAdapter[str] = TypeAdapter(BillFileName)


class Hold(NamedTuple):
    """How a job waits for its account's key. Both times are UTC, timezone-aware.

    Attributes:
        since: When it was held first, by whichever worker.
        refused: When it was refused itself first; None when only others of its account were.
    """

    since: datetime
    refused: datetime | None


class Cut(NamedTuple):
    """The size in bytes and the SHA-256 of a body of which only the beginning was kept."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the contract reads of a delivered message.

    Attributes:
        body: Its body.
        cut: What is known of it when `body` is only its beginning.
        defect: Why its headers cannot be read, as one line; empty when they can.
        death: RabbitMQ's reason for dead-lettering it last ("Dead Letter Exchanges"); empty when it did not.
        has_forged_death: Whether its `x-death` is one that RabbitMQ would not write. RabbitMQ 3.x fails
            to read it, and then can give up neither on this message nor on another of the queue.
    """

    body: bytes
    cut: Cut | None = None
    defect: str = ""
    death: str = ""
    has_forged_death: bool = False
    publisher: str | None = None
    """Its `app_id`: what published it, by its own account."""
    user: object = None
    """The login that published it, as far as RabbitMQ or a copy of ours says so."""
    message_id: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    sent_at: datetime | None = None
    """By the publisher's clock, in whole seconds; UTC, timezone-aware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as read from its message.

    Attributes:
        job_id: The message's id; without one `{appId}/{billFileName}`, or the body's SHA-256.
        correlation_id: The publisher's, else the job's id.
        attempt: Which attempt this is, from 1.
        request: The download asked for; None when the message is invalid.
        defect: What is wrong with an invalid message, as one line; empty otherwise.
        app_id: The account, if at least that could be read.
        bill_file_name: The file, if at least that could be read.
        traceparent: The trace that the publisher was in, if any.
        tracestate: Vendor data of that trace, if any.
        publisher: What published it (`app_id`), if it said so.
        user: The login that published it (`user_id`), if it was given.
        hold: How it has waited for its account's key; None when it has not.
    """

    job_id: str
    correlation_id: str
    attempt: int
    request: DownloadJob | None
    defect: str
    app_id: str | None
    bill_file_name: str | None
    traceparent: str | None
    tracestate: str | None
    publisher: str | None = None
    user: str | None = None
    hold: Hold | None = None


def read_job(envelope: Envelope) -> Job:
    """Read a message; never raises: what cannot be read becomes the job's `defect`."""
    fields, defect = _read_fields(envelope)
    request, defect = (None, defect) if defect else _read_request(fields)
    # Each by itself, so that the event of a job that is invalid as a whole still names what is right.
    app_id = request.app_id if request else _valid(_APP_ID, fields.get("appId"))
    bill_file_name = (
        request.bill_file_name if request else _valid(_BILL_FILE_NAME, fields.get("billFileName"))
    )
    job_id = envelope.message_id or _derived_id(app_id, bill_file_name, envelope)
    if envelope.defect:
        request, defect = None, envelope.defect
    return Job(
        job_id=job_id,
        correlation_id=envelope.correlation_id or job_id,
        attempt=_attempt(envelope.headers.get(ATTEMPT_HEADER)),
        request=request,
        defect=defect,
        app_id=app_id,
        bill_file_name=bill_file_name,
        traceparent=_text(envelope.headers.get("traceparent")),
        tracestate=_tracestate(_text(envelope.headers.get("tracestate"))),
        publisher=envelope.publisher,
        user=_text(envelope.user),
        hold=_hold(envelope.headers),
    )


def hold_headers(hold: Hold) -> dict[str, str]:
    """The headers that a held job goes around with: RFC 3339, UTC, milliseconds."""
    moments = {HELD_HEADER: hold.since, REFUSED_HEADER: hold.refused}
    return {
        name: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for name, moment in moments.items()
        if moment is not None
    }


def _read_fields(envelope: Envelope) -> tuple[dict[str, Any], str]:
    size = envelope.cut.size if envelope.cut else len(envelope.body)
    if size > MAX_BODY_BYTES:
        return {}, f"the body has {size} bytes; at most {MAX_BODY_BYTES} are allowed"
    try:
        # NaN and Infinity are no JSON (RFC 8259, section 6), but most parsers in Python accept them.
        fields = from_json(envelope.body, allow_inf_nan=False)
    except ValueError as exc:
        return {}, f"the body is not UTF-8 JSON: {exc}"
    if not isinstance(fields, dict):
        return {}, "the body is JSON but not an object"
    return fields, ""


def _read_request(fields: dict[str, Any]) -> tuple[DownloadJob | None, str]:
    try:
        return DownloadJob.model_validate(fields, by_alias=True, by_name=False), ""
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_url=False)
        return None, "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)


def _valid(rule: TypeAdapter[str], value: object) -> str | None:
    try:
        return rule.validate_python(value)
    except ValidationError:
        return None


def _derived_id(app_id: str | None, bill_file_name: str | None, envelope: Envelope) -> str:
    if app_id and bill_file_name:
        return f"{app_id}/{bill_file_name}"
    return envelope.cut.sha256 if envelope.cut else hashlib.sha256(envelope.body).hexdigest()


def _attempt(header: object) -> int:
    """The attempt's number; a header that is no positive integer counts as the first attempt."""
    if isinstance(header, int) and not isinstance(header, bool) and header >= 1:
        return min(header, _MAX_ATTEMPT)
    return 1


def _hold(headers: Mapping[str, Any]) -> Hold | None:
    since = _moment(headers.get(HELD_HEADER))
    return None if since is None else Hold(since, _moment(headers.get(REFUSED_HEADER)))


def _moment(header: object) -> datetime | None:
    """A time; None for what is none, or has no zone: a publisher may write what it likes there."""
    if not isinstance(header, str) or len(header) > _MAX_MOMENT:
        return None
    try:
        moment = datetime.fromisoformat(header)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _text(header: object) -> str | None:
    return header if isinstance(header, str) else None


def _tracestate(header: str | None) -> str | None:
    """Keep the whole members from its beginning that fit into the limit."""
    if header is None or len(header) <= _MAX_TRACESTATE:
        return header
    end = header.rfind(",", 0, _MAX_TRACESTATE + 1)
    return header[:end] if end > 0 else None
