"""What is said of a refusal's likely cause."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.ccfs.hints import Admission, dashes, redirected, skew

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("statuses", "is_problem"),
    [
        ([], False),
        ([403], True),
        ([503, 403], True),
        ([403, 403, 401], True),
        ([200, 403], False),
        ([403, 200], False),
        ([403, 200, 403], False),
        ([401], False),
    ],
)
def test_only_403_from_the_start_means_a_refused_address(statuses: list[int], is_problem: bool) -> None:
    admission = Admission()
    for status in statuses:
        admission.heard(status)

    assert ("is this address allowed there?" in admission.problem) == is_problem


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
    ("statuses", "is_problem"),
    [
        ([302], True),
        ([307, 503], True),
        ([200, 302], False),
        ([302, 200], False),
        ([304], True),
        ([404], False),
    ],
)
def test_only_redirects_from_the_start_mean_another_server(statuses: list[int], is_problem: bool) -> None:
    admission = Admission()
    for status in statuses:
        admission.heard(status)

    assert ("something else answers in its place" in admission.problem) == is_problem


@pytest.mark.parametrize(
    ("location", "to"),
    [
        ("https://login.example.com/start?token=secret", " to https://login.example.com"),
        ("https://user:secret@login.example.com:8443/", " to https://login.example.com:8443"),
        ("/login?token=secret", ""),
        ("https://[::1", ""),
        ("http://a:99999/", ""),
        ("", ""),
        ("\x00", ""),
    ],
)
def test_of_a_redirect_only_the_origin_is_told(location: str, to: str) -> None:
    said = redirected(location)

    assert said.startswith(f"the redirect{to} is not CC-FS's")
    assert "secret" not in said


def test_without_a_date_nothing_is_said_of_the_clock() -> None:
    assert skew(None, NOW) == ""


def test_dashes_are_told_only_where_there_are_any() -> None:
    assert "dashes" in dashes("20260131_9239cb50-a838-4bb0.zip")
    assert dashes("20260131_9239cb50a8384bb0.zip") == ""
