"""What is said of a refusal's likely cause."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ccfs.hints import Admission, dashes, redirected, skew

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


ADDRESS, ELSEWHERE = "is this address allowed there?", "something else answers in its place"


@pytest.mark.parametrize(
    ("statuses", "problem"),
    [
        ([], ""),
        ([401], ""),
        ([404], ""),
        ([403], ADDRESS),
        ([503, 403], ADDRESS),
        ([403, 403, 401], ADDRESS),
        ([200, 403], ""),
        ([403, 200], ""),
        ([403, 200, 403], ""),
        ([302], ELSEWHERE),
        ([304], ELSEWHERE),
        ([307, 503], ELSEWHERE),
        ([200, 302], ""),
        ([302, 200], ""),
    ],
)
def test_refusals_are_a_problem_if_nothing_was_let_in(statuses: list[int], problem: str) -> None:
    admission = Admission()
    for status in statuses:
        admission.heard(status)

    assert problem in admission.problem
    assert bool(admission.problem) == bool(problem)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (0, "the clocks here and there agree"),
        (-1, "the clocks here and there agree"),
        (59.6, "the clock here is 60 s ahead of that of CC-FS"),
        (
            -3600,
            "the clock here is 3600 s behind that of CC-FS: set the wrong one before you change the key",
        ),
    ],
)
def test_the_skew_of_the_clock_is_in_seconds(ahead: float, said: str) -> None:
    assert skew(NOW, NOW + timedelta(seconds=ahead)) == said


@pytest.mark.parametrize(
    ("location", "to"),
    [
        ("https://login.example.com/start?token=secret", " to https://login.example.com"),
        ("https://user:secret@login.example.com:8443/", " to https://login.example.com:8443"),
        ("/login?token=secret", ""),
        ("https://[::1", ""),
        ("http://[::1]:8080?token=secret", " to http://[::1]:8080"),
        ("HTTP://Login.example.com#secret", " to HTTP://Login.example.com"),
        ("http://a@b@c/", ""),
        ("http://[s]ps%7032@/.", ""),
        ("http://\xfc.example.com/", ""),
        ("http://login.example.com\\secret", ""),
        ("http://login.example.com\nsecret", ""),
        ("http://a:999999/", ""),
        ("", ""),
        ("\x00", ""),
    ],
)
def test_of_a_redirect_only_the_origin_is_told(location: str, to: str) -> None:
    said = redirected(location)

    assert said.startswith(f"the redirect{to} is not CC-FS's")
    assert "secret" not in said


@given(st.text().map("https://{}".format) | st.text())
def test_whatever_a_redirect_leads_to_makes_one_line(location: str) -> None:
    assert redirected(location).isprintable()


def test_without_a_date_nothing_is_said_of_the_clock() -> None:
    assert skew(None, NOW) == ""


def test_dashes_are_told_only_where_there_are_any() -> None:
    assert "dashes" in dashes("20260131_9239cb50-a838-4bb0.zip")
    assert dashes("20260131_9239cb50a8384bb0.zip") == ""
