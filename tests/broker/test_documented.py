"""What the worker puts on the wire is what the AsyncAPI document tells its users."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from jsonschema import Draft202012Validator

from schemas import ErrorCode, examples
from schemas.asyncapi import PROPERTIES, asyncapi
from tests.amqp import put, take
from tests.broker.conftest import Connected
from worker.broker import AmqpDelivery, Names
from worker.core.job import Job, read_job
from worker.core.outcome import Execution, StoredFile, completed, failed
from worker.core.retry import Retry
from worker.errors import JobError

MESSAGES: dict[str, Any] = asyncapi()["components"]["messages"]
NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
WAIT = 60.0
SPAN = Execution(started_at=NOW, finished_at=NOW, worker="w")
ERROR = JobError(ErrorCode.INVALID_JOB, "the body is JSON but not an object")
FILE = StoredFile(path=examples.COMPLETED["path"], size_bytes=1, sha256="0" * 64, reused=False)


async def complete(delivery: AmqpDelivery, job: Job) -> None:
    await delivery.publish(completed(job, FILE, SPAN), job)


async def fail(delivery: AmqpDelivery, job: Job) -> None:
    await delivery.publish(failed(job, ERROR, SPAN), job)


async def park(delivery: AmqpDelivery, job: Job) -> None:
    await delivery.park(ERROR, job)


async def retry(delivery: AmqpDelivery, _: Job) -> None:
    await delivery.retry(Retry(WAIT, 2))


def on_the_wire(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is set, with moments as AMQP writes them: seconds since 1970."""
    return {
        name: int(value.timestamp()) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }


def properties(message: AbstractIncomingMessage) -> dict[str, Any]:
    names = ("content_type", "type", "message_id", "correlation_id", "timestamp", "app_id", "delivery_mode")
    return on_the_wire({name: getattr(message, name) for name in names})


def resolved_payload(message: Mapping[str, Any]) -> Any:
    reference = message["payload"].get("$ref", "")
    return (
        asyncapi()["components"]["schemas"][reference.rpartition("/")[2]] if reference else message["payload"]
    )


@pytest.mark.parametrize(
    ("act", "queue", "documented"),
    [
        (complete, lambda names: names.results_queue, "downloadCompleted"),
        (fail, lambda names: names.results_queue, "downloadFailed"),
        (park, lambda names: names.dead, "parkedJob"),
        (retry, lambda names: names.tier(WAIT), "downloadJob"),
    ],
)
@pytest.mark.parametrize(
    "published", [{}, {"message_id": "m1", "headers": {"traceparent": examples.TRACEPARENT}}]
)
async def test_a_message_satisfies_its_document(
    act: Callable[[AmqpDelivery, Job], Awaitable[None]],
    queue: Callable[[Names], str],
    documented: str,
    published: dict[str, Any],
    connected: Connected,
    outside: AbstractChannel,
    names: Names,
) -> None:
    await put(outside, names.jobs, json.dumps(examples.JOB).encode(), **published)
    delivery = await connected.inbox.jobs.get()

    await act(delivery, read_job(delivery.envelope))
    await delivery.ack()

    message = await take(outside, queue(names))
    document = MESSAGES[documented]
    Draft202012Validator(resolved_payload(document)).validate(json.loads(message.body))
    Draft202012Validator(document["headers"]).validate(on_the_wire(message.headers))
    Draft202012Validator(document[PROPERTIES]).validate(properties(message))
