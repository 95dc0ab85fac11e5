"""Plain numbers for what happens often: counting costs a job a few hundred nanoseconds in all.

prometheus_client's own counters and histograms take a lock for each change and search their buckets one by
one. Here only the event loop's thread counts, and `worker.observe.metrics` makes Prometheus's families of the
numbers when it is scraped.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

Labels = tuple[str, ...]


class Counts(dict[Labels, float]):
    """How often, or how much, by label values.

    Args:
        known: Label values that are shown as 0 before anything happens, so that rates see the first time.
    """

    def __init__(self, known: Iterable[Labels] = ()) -> None:
        super().__init__(dict.fromkeys(known, 0))

    def __missing__(self, labels: Labels) -> float:
        return 0


class Durations:
    """How long something took, in buckets.

    Attributes:
        total: The sum of all, in seconds.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Iterable[float]) -> None:
        """Sets out the buckets.

        Args:
            bounds: Their upper bounds in seconds, ascending; one for everything above is added.
        """
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Take note of one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """By upper bound, how many took no longer; the last bound is infinite."""
        return zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True)


def powers_of_two(least: int, most: int) -> tuple[float, ...]:
    """Bounds from 2^least to 2^most seconds.

    Powers of two are bucket bounds of native histograms of every schema from 0 on (Prometheus "Native
    Histograms"), so that a quantile reads the same after a change to those.
    """
    return tuple(2.0**exponent for exponent in range(least, most + 1))
