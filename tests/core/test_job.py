"""Reading job messages: identity, attempt, and what is wrong with them."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.job import Cut, Envelope, read_job

GOOD = b'{"appId": "app1", "billFileName": "20260131_abc-1.zip"}'


def test_a_job_without_message_id_is_named_after_its_file() -> None:
    job = read_job(Envelope(body=GOOD))

    assert (job.job_id, job.correlation_id, job.attempt) == (
        "app1/20260131_abc-1.zip",
        "app1/20260131_abc-1.zip",
        1,
    )


def test_the_publishers_ids_are_kept() -> None:
    job = read_job(Envelope(body=GOOD, message_id="m1", correlation_id="c1"))

    assert (job.job_id, job.correlation_id) == ("m1", "c1")


def test_an_unreadable_job_is_named_after_its_body() -> None:
    job = read_job(Envelope(body=b"\xff\xfe"))

    assert job.request is None
    assert job.job_id == hashlib.sha256(b"\xff\xfe").hexdigest()
    assert (job.app_id, job.bill_file_name) == (None, None)


def test_what_can_be_read_of_an_invalid_job_is_kept() -> None:
    """So that its event reaches those who listen for that account."""
    job = read_job(Envelope(body=b'{"appId": "app1", "billFileName": "../../etc/passwd"}'))

    assert (job.request, job.app_id, job.bill_file_name) == (None, "app1", None)
    assert "billFileName" in job.defect
    assert "passwd" not in job.defect


def test_of_duplicate_keys_the_last_counts() -> None:
    good_last = read_job(
        Envelope(body=b'{"appId": "../x", "appId": "app1", "billFileName": "20260131_a.zip"}')
    )
    bad_last = read_job(
        Envelope(body=b'{"appId": "app1", "appId": "../x", "billFileName": "20260131_a.zip"}')
    )

    assert good_last.app_id == "app1"
    assert (bad_last.request, bad_last.app_id) == (None, None)


@pytest.mark.parametrize(
    ("header", "attempt"),
    [(None, 1), (1, 1), (7, 7), (0, 1), (-3, 1), (True, 1), ("4", 1), (2.0, 1), (10**12, 1_000_000)],
)
def test_only_a_positive_whole_number_counts_as_an_attempt(header: Any, attempt: int) -> None:
    read = read_job(Envelope(body=GOOD, headers={"x-attempt": header})).attempt

    assert (type(read), read) == (int, attempt)


@pytest.mark.parametrize(
    ("header", "carried"),
    [
        ("a=b", "a=b"),
        ("x" * 512, "x" * 512),
        ("x" * 513, None),
        (f"a=b,{'x' * 508},c=d", f"a=b,{'x' * 508}"),
        (f"a=b,{'x' * 509},c=d", "a=b"),
        (",".join(["k=v"] * 1000), ",".join(["k=v"] * 128)),
        ("," * 1000, "," * 512),
        (7, None),
    ],
)
def test_of_a_long_tracestate_whole_members_are_carried(header: Any, carried: str | None) -> None:
    assert read_job(Envelope(body=GOOD, headers={"tracestate": header})).tracestate == carried


def test_headers_that_cannot_be_read_make_a_job_invalid() -> None:
    """Its event still names what the body asks for."""
    job = read_job(Envelope(body=GOOD, defect="the headers cannot be read: cut off"))

    assert (job.request, job.defect) == (None, "the headers cannot be read: cut off")
    assert (job.job_id, job.app_id) == (f"{job.app_id}/{job.bill_file_name}", "app1")


def test_a_body_of_which_only_the_beginning_was_kept_is_no_job() -> None:
    """Though its beginning may look like one."""
    job = read_job(Envelope(body=GOOD, cut=Cut(10**8, "ab" * 32)))

    assert (job.request, job.job_id) == (None, "ab" * 32)
    assert "the body has 100000000 bytes; at most 65536" in job.defect


@given(st.binary(max_size=300))
def test_no_body_makes_reading_fail(body: bytes) -> None:
    job = read_job(Envelope(body=body))

    assert job.job_id
    assert (job.request is None) == bool(job.defect)
