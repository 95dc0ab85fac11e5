"""Foreign text becomes one line that can be shown anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import ErrorCode
from worker.errors import JobError, one_line


@given(st.text(max_size=3000))
def test_any_text_becomes_one_bounded_printable_line(text: str) -> None:
    line = one_line(text)

    assert len(line) <= 500
    assert line.isprintable()


def test_a_text_that_was_cut_says_so_within_the_bound() -> None:
    line = one_line("x" * 501)

    assert line == "x" * 499 + "…"
    assert one_line("x" * 500) == "x" * 500


def test_a_signature_that_a_peer_echoes_is_not_passed_on() -> None:
    error = JobError(
        ErrorCode.UPSTREAM_ERROR, "bad header auth-v2/app/2026-01-01T00:00:00Z/host/0123abcd here"
    )

    assert error.message == "bad header auth-v2/*** here"
    assert "0123abcd" not in str(error)
