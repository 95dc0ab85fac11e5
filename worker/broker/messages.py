"""Messages on the wire: what is read from a job, and what events, retries and parked copies look like."""

import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage, HeadersType
from pamqp.commands import Basic
from pamqp.common import FieldValue

from schemas import DownloadJob, Outcome
from worker.context import SPAN
from worker.errors import JobError
from worker.job import ATTEMPT_HEADER, TRACE_HEADERS, Envelope, Job
from worker.retry import Retry

APP_ID = "ccfs-worker"
DEAD_REASON = "x-dead-reason"
DEAD_DETAIL = "x-dead-detail"
DEAD_SINCE = "x-dead-since"
"""When a message was parked, as an AMQP timestamp."""

# The broker's own records of a message's past, which a fresh copy must not carry on: they would make
# it look like part of a dead-letter cycle, and CC would route the copy to further queues.
_BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "CC")


@dataclass(frozen=True, slots=True)
class Event:
    """An event on the wire.

    aio-pika's Message would check and convert each property once more.
    """

    body: bytes
    properties: Basic.Properties


def read_envelope(body: bytes, properties: Basic.Properties) -> Envelope:
    """Reduce a delivered message to what the contract reads."""
    headers = properties.headers or {}
    return Envelope(
        body=body,
        message_id=properties.message_id or None,
        correlation_id=properties.correlation_id or None,
        headers={name: headers.get(name) for name in (ATTEMPT_HEADER, *TRACE_HEADERS)},
        sent_at=properties.timestamp,
    )


def event(outcome: Outcome, job: Job) -> Event:
    """The event of an outcome, as its consumers get it."""
    headers: HeadersType = {"traceparent": SPAN.get().context.traceparent}
    if job.traceparent and job.tracestate:
        headers["tracestate"] = job.tracestate
    return Event(
        outcome.to_json(),
        Basic.Properties(
            content_type="application/json",
            message_type=f"download.{outcome.status}",
            message_id=_unique_id(),
            correlation_id=job.correlation_id,
            timestamp=datetime.now(UTC),
            app_id=APP_ID,
            delivery_mode=DeliveryMode.PERSISTENT,
            headers=headers,
        ),
    )


def _unique_id() -> str:
    """A random UUID (RFC 9562, version 4), by the generator that the process seeded itself with.

    Nobody has to be kept from guessing it; `uuid.uuid4` asks the kernel, which lets other threads in.
    """
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def retry_copy(message: AbstractIncomingMessage, job: Job, retry: Retry) -> Message:
    """A fresh copy of a job message for the tier in which it waits for that attempt."""
    copy = _copy(message, job, {ATTEMPT_HEADER: retry.attempt})
    copy.expiration = retry.early
    return copy


def parked_copy(message: AbstractIncomingMessage, job: Job, error: JobError) -> Message:
    """A copy of a job message for the dead letters, with the reason why it lies there."""
    return _copy(
        message,
        job,
        {
            DEAD_REASON: str(error.code),
            DEAD_DETAIL: error.message,
            DEAD_SINCE: datetime.now(UTC),
        },
    )


def replayed_copy(message: AbstractIncomingMessage, job: Job) -> Message:
    """A copy of a parked message that starts over as a job that was just published."""
    copy = _copy(message, job, {})
    for name in (ATTEMPT_HEADER, DEAD_REASON, DEAD_DETAIL, DEAD_SINCE):
        copy.headers.pop(name, None)
    # The time that the job waits in the queue counts from here.
    copy.timestamp = datetime.now(UTC)
    return copy


def job_message(job: DownloadJob, job_id: str) -> Message:
    """A new job, as a publisher sends it."""
    return Message(
        job.model_dump_json(by_alias=True).encode(),
        content_type="application/json",
        message_id=job_id,
        timestamp=datetime.now(UTC),
        app_id=APP_ID,
        delivery_mode=DeliveryMode.PERSISTENT,
    )


def _copy(message: AbstractIncomingMessage, job: Job, headers: HeadersType) -> Message:
    kept = {
        name: _writable(value)
        for name, value in message.headers.items()
        if not name.startswith(_BROKER_HEADERS)
    }
    return Message(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        type=message.type,
        # The job's identity, also where the publisher left it to be derived: aiormq would make one up.
        message_id=job.job_id,
        correlation_id=message.correlation_id,
        timestamp=message.timestamp,
        app_id=message.app_id,
        reply_to=message.reply_to,
        priority=message.priority,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=kept | headers,
    )


def _writable(value: FieldValue) -> FieldValue:
    """A header's value as pamqp can write it, which reads text that is not UTF-8 as bytes."""
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, dict):
        return {name: _writable(item) for name, item in value.items()}
    return value
