"""The trace of a job continues in its outcome."""

import pytest

from worker.core.trace import continue_trace

TRACE = "0af7651916cd43dd8448eb211c80319c"


def fixed_hex(size: int) -> str:
    return "5a" * size


def test_the_trace_goes_on_under_a_new_parent() -> None:
    ours = continue_trace(f"00-{TRACE}-b7ad6b7169203331-01", fixed_hex)
    assert ours.traceparent == f"00-{TRACE}-{'5a' * 8}-01"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-b7ad6b7169203331-01\n",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
    ],
)
def test_an_absent_or_malformed_header_starts_a_new_trace(header: str | None) -> None:
    assert continue_trace(header, fixed_hex) == ("5a" * 16, "5a" * 8, "00")
