"""The events that jobs end in."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import DownloadCompleted, ErrorCode, read_outcome
from tests.malformed import FILE, GOOD
from worker.core.job import Envelope, read_job
from worker.core.outcome import Execution, Listing, StoredFile, completed, failed, listing, routing_key
from worker.errors import JobError

STARTED = datetime(2026, 1, 31, 8, 15, 0, 123_999, tzinfo=UTC)
SPAN = Execution(started_at=STARTED, finished_at=STARTED + timedelta(seconds=2), worker="worker-1")
STORED = StoredFile(
    path=f"app1/20260131/{FILE}",
    size_bytes=20480,
    sha256="ab" * 32,
    reused=False,
    listing=Listing((("1_call.csv", 70000), ("1_record.csv", 0)), 40),
)
NOT_FOUND = JobError(ErrorCode.FILE_NOT_FOUND, "not there", result_code="0300011", http_status=200)


def test_the_event_of_a_completed_job_is_what_the_contract_says() -> None:
    job = read_job(Envelope(body=GOOD, message_id="m1", headers={"x-attempt": 2}))

    assert json.loads(completed(job, STORED, SPAN).to_json()) == {
        "status": "completed",
        "jobId": "m1",
        "appId": "app1",
        "billFileName": FILE,
        "path": f"app1/20260131/{FILE}",
        "sizeBytes": 20480,
        "sha256": "ab" * 32,
        "entries": [{"name": "1_call.csv", "sizeBytes": 70000}, {"name": "1_record.csv", "sizeBytes": 0}],
        "entryCount": 40,
        "attempts": 2,
        "reused": False,
        "startedAt": "2026-01-31T08:15:00.123Z",
        "finishedAt": "2026-01-31T08:15:02.123Z",
        "worker": "worker-1",
    }


def test_a_listing_names_files_alone_and_not_all_of_many() -> None:
    found = listing([("calls/", 0), *((f"calls/{number}.csv", number) for number in range(40))])

    assert found.total == 40
    assert found.entries == tuple((f"calls/{number}.csv", number) for number in range(32))


@pytest.mark.parametrize("name", ["a\nb.csv", "\x1b[2Jx", "\u202egpj.csv", "x" * 70_000, "", "auth-v2/k/s"])
def test_a_name_in_a_zip_is_one_bounded_line_in_an_event(name: str) -> None:
    """Whatever an archive says goes into an event that its consumers can read."""
    job = read_job(Envelope(body=GOOD))
    stored = replace(STORED, listing=listing([(name, 1)]))

    event = read_outcome(completed(job, stored, SPAN).to_json())

    assert isinstance(event, DownloadCompleted)
    (entry,) = event.entries
    assert len(entry.name) <= 255
    assert entry.name.isprintable()
    assert "k/s" not in entry.name


def test_the_event_of_a_failed_job_is_what_the_contract_says() -> None:
    job = read_job(Envelope(body=GOOD, headers={"x-attempt": 3}))

    assert json.loads(failed(job, NOT_FOUND, SPAN).to_json()) == {
        "status": "failed",
        "jobId": f"app1/{FILE}",
        "appId": "app1",
        "billFileName": FILE,
        "errorCode": "FILE_NOT_FOUND",
        "errorMessage": "not there",
        "resultCode": "0300011",
        "httpStatus": 200,
        "attempts": 3,
        "startedAt": "2026-01-31T08:15:00.123Z",
        "finishedAt": "2026-01-31T08:15:02.123Z",
        "worker": "worker-1",
    }


def test_what_is_not_known_of_a_failed_job_is_null() -> None:
    job = read_job(Envelope(body=b"not JSON", message_id="m1"))

    event = json.loads(failed(job, JobError(ErrorCode.INVALID_JOB, job.defect), SPAN).to_json())

    unknown = {name for name, value in event.items() if value is None}
    assert unknown == {"appId", "billFileName", "resultCode", "httpStatus"}


def test_moments_of_another_time_zone_are_written_in_utc() -> None:
    east = STARTED.astimezone(timezone(timedelta(hours=8)))
    span = Execution(started_at=east, finished_at=east, worker="w")

    event = json.loads(failed(read_job(Envelope(body=GOOD)), NOT_FOUND, span).to_json())

    assert event["startedAt"] == "2026-01-31T08:15:00.123Z"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (GOOD, "failed.app1"),
        (b'{"appId": "app1", "billFileName": "../x"}', "failed.app1"),
        (b'{"appId": "a.b", "billFileName": "../x"}', "failed.a.b"),
        (b'{"appId": "../x", "billFileName": "20260131_a.zip"}', "failed"),
        (b"not JSON", "failed"),
    ],
)
def test_a_failed_event_is_routed_by_its_account_if_known(body: bytes, key: str) -> None:
    assert routing_key(failed(read_job(Envelope(body=body)), NOT_FOUND, SPAN)) == key


def test_a_completed_event_is_routed_by_its_account() -> None:
    assert routing_key(completed(read_job(Envelope(body=GOOD)), STORED, SPAN)) == "completed.app1"


def test_an_invalid_message_cannot_complete() -> None:
    with pytest.raises(ValueError, match="cannot complete"):
        completed(read_job(Envelope(body=b"{}")), STORED, SPAN)


@given(
    body=st.binary(max_size=200) | st.just(GOOD),
    message_id=st.none() | st.text(max_size=255),
    attempt=st.integers() | st.none() | st.text(max_size=5),
    code=st.sampled_from(ErrorCode),
    message=st.text(max_size=2000),
)
def test_every_failure_of_every_message_makes_an_event(
    body: bytes, message_id: str | None, attempt: object, code: ErrorCode, message: str
) -> None:
    job = read_job(Envelope(body=body, message_id=message_id, headers={"x-attempt": attempt}))

    event = failed(job, JobError(code, message), SPAN)

    assert read_outcome(event.to_json()) == event
