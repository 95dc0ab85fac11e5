"""The classifier by itself: whatever an answer holds, it means exactly one thing to a job."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import ErrorCode
from worker.ccfs.answers import (
    HEAD_BYTES,
    LONGEST_RETRY_AFTER,
    RESULT_CODES,
    is_file,
    parse_retry_after,
    read_result,
    refusal,
)

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
FROM_AN_ANSWER = {
    ErrorCode.UNAUTHORIZED,
    ErrorCode.FILE_NOT_FOUND,
    ErrorCode.REQUEST_REJECTED,
    ErrorCode.FLOW_CONTROL,
    ErrorCode.UPSTREAM_ERROR,
    ErrorCode.CORRUPT_ARCHIVE,
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


headers = st.text(max_size=60) | st.sampled_from(
    [
        "",
        "application/json",
        "Application/Octet-stream;charset=UTF-8",
        "text/html",
        "gzip",
        "identity",
        ";",
        "\x00",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(RESULT_CODES)),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
fields = st.dictionaries(
    st.sampled_from(["resultCode", "resultDesc", "resultData", "response", "resultMsg"]), values, max_size=5
)
bodies = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))
    | st.tuples(
        st.sampled_from(["", "\ufeff", " \n"]), (fields | st.fixed_dictionaries({"response": fields}))
    ).map(lambda parts: (parts[0] + json.dumps(parts[1])).encode(errors="surrogatepass"))
)
answers = st.builds(
    Answer,
    st.integers(0, 999) | st.sampled_from([200, 401, 429, 503]),
    st.fixed_dictionaries(
        {},
        optional={
            "content-type": headers,
            "content-encoding": headers,
            "retry-after": headers | st.integers().map(str),
        },
    ),
    bodies,
)


@given(answer=answers)
@example(Answer(200, {}, b'{"resultCode": %s}' % (b"9" * 5000)))
@example(Answer(200, {}, b"[" * 65536))
def test_every_answer_has_one_code_and_one_line(answer: Answer) -> None:
    error = refusal(*answer, NOW)

    assert error.code in FROM_AN_ANSWER
    assert error.http_status == answer.status
    assert error.message
    assert error.message.isprintable()
    assert error.result_code is None or 0 < len(error.result_code) <= 32
    assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_RETRY_AFTER


@given(answer=answers)
def test_only_a_401_makes_the_key_be_read_again(answer: Answer) -> None:
    assert (refusal(*answer, NOW).code is ErrorCode.UNAUTHORIZED) == (answer.status == 401)


@given(status=st.integers(0, 999), head=st.binary(max_size=HEAD_BYTES))
def test_only_a_200_that_begins_like_a_zip_is_a_file(status: int, head: bytes) -> None:
    begins_like_a_zip = head in {b"PK\x03\x04", b"PK\x05\x06"}

    assert is_file(status, head) == (status == 200 and begins_like_a_zip)


@given(
    code=st.sampled_from(list(RESULT_CODES)),
    status=st.integers(100, 599).filter(lambda status: status != 401),
)
def test_a_known_result_code_means_the_same_beside_any_status(code: str, status: int) -> None:
    body = json.dumps({"resultCode": code}).encode()

    assert refusal(status, {}, body, NOW).code is RESULT_CODES[code]


@given(body=bodies)
def test_reading_a_result_never_fails(body: bytes) -> None:
    code, description = read_result(body)

    assert code is None or code
    assert isinstance(description, str)


@given(value=st.text(max_size=80) | st.integers().map(str))
def test_reading_a_retry_after_never_fails(value: str) -> None:
    seconds = parse_retry_after(value, NOW)

    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


@given(seconds=st.integers(0, 10**30))
def test_seconds_are_taken_as_they_are_up_to_a_day(seconds: int) -> None:
    assert parse_retry_after(str(seconds), NOW) == min(seconds, 86_400)


@given(ahead=st.integers(-(10**9), 10**9))
def test_dates_are_counted_from_now(ahead: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)

    assert parse_retry_after(date, NOW) == min(max(ahead, 0), 86_400)


HOSTILE = [
    "", " ", "-1", "+1", "1.5", "1e3", "0x10", "1 2", "\u0663", "\u00b2", "nan", "inf", "soon", "Sat, 31",
    "Sat, 32 Jan 2026 08:15:00 GMT", "Fri, 31 Dec 99999 23:59:59 GMT", "Sat, 31 Jan 2026 25:61:61 GMT",
    "Sat, 31 Jan 2026 08:15:00 +9999999999", "9" * 5000 + "x",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_neither_form_of_retry_after_says_nothing(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Sat, 31 Jan 2026 08:15:30 GMT", 30),
        ("Saturday, 31-Jan-26 08:15:30 GMT", 30),
        ("Sat Jan 31 08:15:30 2026", 30),
        ("Sat, 31 Jan 2026 09:15:30 +0100", 30),
        ("Sat, 31 Jan 2026 08:15:30", 30),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86_400),
        (" 7 ", 7),
        ("007", 7),
        ("9" * 5000, 86_400),
    ],
)
def test_forms_of_retry_after(value: str, seconds: float) -> None:
    """Those of RFC 9110, sections 5.6.7 and 10.2.3, the obsolete ones included."""
    assert parse_retry_after(value, NOW) == seconds
