"""What is read from a job's message, and what is written into events, retries and parked copies."""

import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from schemas import DownloadJob, FailedJob, Outcome
from worker.broker import properties as amqp
from worker.broker.frames import Message, fits
from worker.broker.tables import UnreadableError, Value
from worker.core.context import SPAN
from worker.core.job import (
    ATTEMPT_HEADER,
    HELD_HEADER,
    READ_HEADERS,
    REFUSED_HEADER,
    Cut,
    Envelope,
    Hold,
    Job,
    hold_headers,
)
from worker.core.retry import Retry
from worker.errors import JobError

APP_ID = "ccfs-worker"
DEAD_REASON = "x-dead-reason"
DEAD_DETAIL = "x-dead-detail"
DEAD_SINCE = "x-dead-since"
"""When a message was parked, as an AMQP timestamp."""
DEAD_BODY_BYTES = "x-dead-body-bytes"
"""Bytes of the whole body, on a parked copy that holds only its beginning."""
DEAD_BODY_SHA256 = "x-dead-body-sha256"
"""SHA-256 of the whole body, on the same copy: the job's `jobId` may be that."""
HEADERS_DROPPED = "x-headers-dropped"
"""Why a copy lacks its publisher's headers."""
PUBLISHED_BY = "x-published-by"
"""The `user_id` of the message that a copy was made of."""
PUBLISH_ID = "x-publish-id"
"""Identifies a publish on its channel when the broker returns it. `message_id` cannot: it may be absent, or
come twice."""

_OURS = frozenset(
    name.encode()
    for name in (
        ATTEMPT_HEADER,
        HELD_HEADER,
        REFUSED_HEADER,
        DEAD_REASON,
        DEAD_DETAIL,
        DEAD_SINCE,
        DEAD_BODY_BYTES,
        DEAD_BODY_SHA256,
        PUBLISH_ID,
    )
)
# The broker's records of a message's past, and a publisher's routing orders. A fresh copy must not have them:
# the broker could take it for part of a dead-letter cycle and drop it, and CC would route it elsewhere, too.
_BROKERS = re.compile(
    rb"x-death|x-(first|last)-death-(exchange|queue|reason)|x-(delivery|acquired)-count|CC|BCC"
)

_PERSISTENT = b"\x02"
_JSON = amqp.short("application/json")
_APP_ID = amqp.short(APP_ID)
_TYPES = {status: amqp.short(f"download.{status}") for status in ("completed", "failed")}
_ID_BITS = 63


def read_envelope(message: Message) -> Envelope:
    """Take from a delivered message what the contract reads. Never raises."""
    properties = message.properties
    return Envelope(
        body=message.body,
        cut=message.cut,
        defect=properties.defect,
        death=str(last_death(properties).get("reason", "")),
        has_forged_death=_has_forged_death(properties),
        message_id=properties.short(amqp.MESSAGE_ID) or None,
        publisher=properties.short(amqp.APP_ID) or None,
        user=properties.short(amqp.USER_ID) or properties.header(PUBLISHED_BY),
        correlation_id=properties.short(amqp.CORRELATION_ID) or None,
        headers={name: properties.header(name) for name in READ_HEADERS},
        sent_at=properties.sent_at(),
    )


def read_letter(message: Message) -> Envelope:
    """Take from a parked message what the contract reads, as far as the copy holds it. Never raises."""
    envelope = read_envelope(message)
    size, sha256 = (message.properties.header(name) for name in (DEAD_BODY_BYTES, DEAD_BODY_SHA256))
    if not isinstance(size, int) or not isinstance(sha256, str):
        return envelope
    return replace(envelope, cut=Cut(size, sha256))


def last_death(properties: amqp.Properties) -> dict[str, Any]:
    """Give RabbitMQ's record of the last time that it dead-lettered a message; empty without one."""
    deaths = properties.header("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    return last if isinstance(last, dict) else {}


def _has_forged_death(properties: amqp.Properties) -> bool:
    # RabbitMQ 3.x ignores an x-death that is no list. In a list it relies on what it writes itself: tables,
    # one for each queue and reason, with a number as `count` (rabbit_dead_letter in 3.10).
    deaths = properties.header("x-death")
    if not isinstance(deaths, list):
        return False
    tables = [death for death in deaths if isinstance(death, dict)]
    places = {(str(death.get("queue")), str(death.get("reason"))) for death in tables}
    counts = [death.get("count", 1) for death in tables]
    return len(places) < len(deaths) or not all(type(count) is int for count in counts)


def publish_id(properties: amqp.Properties) -> int | None:
    """Which publish of a channel a message is; None when it is none of ours."""
    found = properties.header(PUBLISH_ID)
    return found if isinstance(found, int) else None


def event(outcome: Outcome, job: Job) -> Message:
    """The event of an outcome, as its consumers get it."""
    headers: dict[str, Value] = {"traceparent": SPAN.get().context.traceparent}
    if job.traceparent and job.tracestate:
        headers["tracestate"] = job.tracestate
    return _message(outcome.to_json(), _event_values(outcome, job), headers)


def _event_values(outcome: Outcome, job: Job) -> dict[int, bytes]:
    # Like uuid.uuid4 (RFC 9562), which asks the kernel for each: that releases the GIL, and other threads run
    # first. Nobody has to be kept from guessing the id.
    message_id = uuid.UUID(int=random.getrandbits(128), version=4)
    return {
        amqp.CONTENT_TYPE: _JSON,
        amqp.CORRELATION_ID: amqp.short(job.correlation_id),
        amqp.MESSAGE_ID: amqp.short(str(message_id)),
        amqp.TIMESTAMP: amqp.timestamp(datetime.now(UTC)),
        amqp.TYPE: _TYPES[outcome.status],
        amqp.APP_ID: _APP_ID,
    }


def kept_failure(message: Message, failure: FailedJob, job: Job, *, frame_max: int) -> Message:
    """A failed event with its job, for the queue that keeps them; headers and `app_id` are the job's own.

    Args:
        message: The job.
        failure: The event.
        job: What was read of the job.
        frame_max: Bytes that a frame may have, as negotiated; 0 is no bound.
    """
    changes = _event_values(failure, job)
    del changes[amqp.APP_ID]
    return _copy(replace(message, body=failure.to_json()), {}, changes, frame_max)


def job_message(job: DownloadJob, job_id: str, priority: int | None = None) -> Message:
    """A new job, as a publisher sends it."""
    values = {
        amqp.CONTENT_TYPE: _JSON,
        amqp.MESSAGE_ID: amqp.short(job_id),
        amqp.TIMESTAMP: amqp.timestamp(datetime.now(UTC)),
        amqp.APP_ID: _APP_ID,
    }
    if priority is not None:
        values[amqp.PRIORITY] = bytes((priority,))
    return _message(job.model_dump_json(by_alias=True).encode(), values, {})


def job_again(message: Message, job_id: str, body: bytes, *, frame_max: int) -> Message:
    """A new job of a failed one, with its publisher's headers and priority as they came.

    Args:
        message: The failed job as it was kept.
        job_id: The job's id.
        body: The job's own body.
        frame_max: Bytes that a frame may have, as negotiated; 0 is no bound.
    """
    values = message.properties.values()
    # The job's publisher did not set it: it says that the kept copy is an event.
    values.pop(amqp.TYPE, None)
    of_job = Message(body, amqp.Properties(amqp.written(values)))
    # The time that the job waits in the queue counts from here.
    now = amqp.timestamp(datetime.now(UTC))
    changes = {amqp.MESSAGE_ID: amqp.short(job_id), amqp.TIMESTAMP: now}
    return _copy(of_job, {}, changes, frame_max)


def retry_copy(message: Message, retry: Retry, *, frame_max: int) -> Message:
    """A fresh copy of a job message for the tier in which it waits for its next attempt.

    Args:
        message: The job.
        retry: How long it waits, and for which attempt.
        frame_max: Bytes that a frame may have, as negotiated; 0 is no bound.
    """
    changes = {} if retry.early is None else _expiring(min(max(retry.early, 0), retry.delay))
    headers: dict[str, Value] = {ATTEMPT_HEADER: retry.attempt}
    for name in (HELD_HEADER, REFUSED_HEADER):
        if isinstance(since := message.properties.header(name), str):
            headers[name] = since
    return _copy(message, headers, changes, frame_max)


def held_copy(message: Message, hold: Hold, wait: float, job: Job, *, frame_max: int) -> Message:
    """A copy of a job message for the tier in which it waits for its account's key.

    Args:
        message: The job.
        hold: Since when.
        wait: Seconds until it comes back.
        job: What was read of it.
        frame_max: Bytes that a frame may have, as negotiated; 0 is no bound.
    """
    headers: dict[str, Value] = {ATTEMPT_HEADER: job.attempt, **hold_headers(hold)}
    return _copy(message, headers, _expiring(wait), frame_max)


def _expiring(seconds: float) -> dict[int, bytes]:
    return {amqp.EXPIRATION: amqp.short(str(round(seconds * 1000)))}


def parked_copy(message: Message, job: Job, error: JobError, *, frame_max: int) -> Message:
    """A copy of a job message for the dead letters, with the reason for it.

    It holds only the beginning of a body that is larger than a job may have.

    Args:
        message: The job.
        job: What was read of it.
        error: The reason.
        frame_max: Bytes that a frame may have, as negotiated; 0 is no bound.
    """
    headers: dict[str, Value] = {
        DEAD_REASON: str(error.code),
        DEAD_DETAIL: error.message,
        DEAD_SINCE: datetime.now(UTC),
    }
    if job.attempt > 1:
        headers[ATTEMPT_HEADER] = job.attempt
    if message.cut is not None:
        headers |= {DEAD_BODY_BYTES: message.cut.size, DEAD_BODY_SHA256: message.cut.sha256}
    return _copy(message, headers, {}, frame_max)


def replayed_copy(message: Message, *, frame_max: int) -> Message:
    """A copy of a parked message that starts again at the first attempt."""
    # The time that the job waits in its queue counts from the timestamp.
    now = {amqp.TIMESTAMP: amqp.timestamp(datetime.now(UTC))}
    return _copy(message, {}, now, frame_max)


def _copy(
    message: Message, headers: Mapping[str, Value], changes: Mapping[int, bytes], frame_max: int
) -> Message:
    """Copy a message: its publisher's properties and headers as they came, and ours.

    Two properties are left out. `expiration` was meant for the queue of jobs: in a tier it would end the wait
    early, and among the dead letters it would drop the letter. RabbitMQ accepts a `user_id` only from the
    login of that name ("Validated User-ID"), and otherwise closes the channel: a header holds it instead.
    `delivery_mode` becomes 2: the broker may lose a message with 1, and RabbitMQ 3 refuses all other values.
    """
    values = message.properties.values()
    user, dropped = message.properties.short(amqp.USER_ID), _OURS
    if user is not None:
        headers, dropped = {**headers, PUBLISHED_BY: user}, _OURS | {PUBLISHED_BY.encode()}
    for flag in (amqp.EXPIRATION, amqp.USER_ID):
        values.pop(flag, None)
    values |= changes
    try:
        theirs = message.properties.headers_but(
            lambda name: name in dropped or _BROKERS.fullmatch(name) is not None
        )
    except UnreadableError as exc:
        reason = f"they cannot be read: {exc}"
    else:
        copy = _message(message.body, values, headers, theirs)
        if fits(copy.properties, frame_max):
            return copy
        reason = f"with them the copy does not fit into a frame of {frame_max} bytes"
    return _message(message.body, values, {**headers, HEADERS_DROPPED: reason})


def _message(
    body: bytes, values: Mapping[int, bytes], headers: Mapping[str, Value], others: bytes = b""
) -> Message:
    table = amqp.table({**headers, PUBLISH_ID: random.getrandbits(_ID_BITS)}, others)
    whole = {**values, amqp.HEADERS: table, amqp.DELIVERY_MODE: _PERSISTENT}
    return Message(body, amqp.Properties(amqp.written(whole)))
