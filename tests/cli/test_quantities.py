"""What people write as ages, and what operators see of a body, whatever is in it."""

from datetime import UTC, datetime, timedelta
from textwrap import indent

import pytest
import typer

from worker.cli import terminal
from worker.cli.quantities import parse_moment


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T22:00Z", datetime(2026, 1, 31, 22, tzinfo=UTC)),
        ("2026-01-31T22:00+02:00", datetime(2026, 1, 31, 20, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_as_utc_or_in_its_zone(text: str, when: datetime) -> None:
    assert parse_moment(text) == when


def test_an_age_counts_back_from_now() -> None:
    before = datetime.now(UTC)

    found = parse_moment("2h")

    assert before <= found + timedelta(hours=2) <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "2", "2w", "-2h", "tomorrow", "9999999d", "9" * 30 + "s"])
def test_what_is_no_moment_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be a number and a unit"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a": "\\u001b[0m"}', '{\n  "a": "\\u001b[0m"\n}'),
        (b"\x1b[0m\xff", "[0m\\xff"),
        (b"[" * 4000, "[" * 4000),
        (b'"' + b"x" * 5000 + b'"', '"' + "x" * 4095),
    ],
    ids=["json", "bytes", "deeply nested", "long"],
)
def test_a_body_is_shown_as_far_as_a_person_reads_it(body: bytes, shown: str) -> None:
    assert terminal.page({"job": "m1"}, body) == f"job  m1\n{indent(shown, '  ')}"
