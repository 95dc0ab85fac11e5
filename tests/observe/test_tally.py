"""Counting with plain numbers."""

import math

from hypothesis import given
from hypothesis import strategies as st

from worker.observe.tally import Counts, Durations, powers_of_two


def test_what_is_known_is_there_before_it_happens() -> None:
    counts = Counts([("a",)])
    counts[("b",)] += 2
    assert counts == {("a",): 0, ("b",): 2}


def test_powers_of_two_are_exact() -> None:
    assert powers_of_two(-2, 3) == (0.25, 0.5, 1, 2, 4, 8)


@given(st.lists(st.floats(0, 100)))
def test_each_bucket_holds_what_took_no_longer(seconds: list[float]) -> None:
    """As Prometheus defines it: a bucket's bound is inclusive, and the last bucket holds all."""
    durations = Durations((0.5, 1.0, 8.0))
    for each in seconds:
        durations.add(each)
    assert list(durations.cumulative()) == [
        (bound, sum(each <= bound for each in seconds)) for bound in (0.5, 1.0, 8.0, math.inf)
    ]
    assert durations.total == sum(seconds)
