"""A message whose properties nobody can read is a message like any other."""

import struct
from datetime import UTC, datetime

import pamqp.encode
import pytest
from aio_pika.abc import AbstractChannel
from pamqp.common import FieldValue

from schemas import ErrorCode
from tests.amqp import put, take
from tests.broker.conftest import Connected
from worker.broker import Names
from worker.errors import JobError
from worker.job import read_job

NOT_UTF8 = "not \udcff UTF-8"


@pytest.fixture
def any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a client in this process publish text that is not UTF-8, as one in C may."""

    def string(length: struct.Struct, text: str) -> bytes:
        encoded = text.encode(errors="surrogateescape")
        return length.pack(len(encoded)) + encoded

    monkeypatch.setattr(pamqp.encode, "_string", string)


@pytest.mark.parametrize("seconds", [1_700_000_000_000_000, 2**63, 2**64 - 1])
async def test_a_timestamp_beyond_all_time_costs_nothing_else(
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
    connected: Connected,
    outside: AbstractChannel,
    names: Names,
) -> None:
    """The first is what a publisher writes who counts microseconds."""
    monkeypatch.setitem(pamqp.encode.METHODS, "timestamp", lambda _: struct.pack(">Q", seconds))
    await put(
        outside,
        names.jobs,
        b"{}",
        message_id="m1",
        correlation_id="c1",
        headers={"x-attempt": 2},
        timestamp=datetime.now(UTC),
    )

    delivery = await connected.inbox.jobs.get()

    job = read_job(delivery.envelope)
    assert (job.job_id, job.correlation_id, job.attempt) == ("m1", "c1", 2)
    await delivery.ack()


@pytest.mark.usefixtures("any_bytes")
async def test_an_id_that_is_not_utf8_counts_as_absent(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, b"{}", message_id=NOT_UTF8, correlation_id="c1")

    delivery = await connected.inbox.jobs.get()

    assert (delivery.envelope.message_id, delivery.envelope.correlation_id) == (None, "c1")
    await delivery.ack()


@pytest.mark.usefixtures("any_bytes")
@pytest.mark.parametrize("value", [NOT_UTF8, [NOT_UTF8], {"deep": [NOT_UTF8]}])
async def test_a_header_that_is_not_utf8_does_not_keep_a_message_from_being_parked(
    value: FieldValue, connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, b"no job", headers={"x-note": value})
    delivery = await connected.inbox.jobs.get()

    await delivery.park(JobError(ErrorCode.INVALID_JOB, "no"), read_job(delivery.envelope))
    await delivery.ack()

    assert (await take(outside, names.dead)).body == b"no job"
