"""Cuts a storm of equal events to the first few and a count of the rest."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

Kind = tuple[str, str]
"""An event and its error code, empty without one. Events of one kind are counted together."""


class Suppressed(NamedTuple):
    """How many events of one kind did not pass, and in how many seconds."""

    kind: Kind
    number: int
    seconds: float


class Throttle:
    """Lets through a burst of each kind of event within an interval.

    Args:
        clock: Gives the time in seconds, monotonic.
        burst: Events of a kind that pass within an interval.
        interval: Seconds, counted from a kind's first event.
    """

    def __init__(self, clock: Callable[[], float], *, burst: int, interval: float) -> None:
        self._clock = clock
        self._burst = burst
        self._interval = interval
        self._windows: dict[Kind, tuple[float, int]] = {}

    def admits(self, kind: Kind) -> bool:
        """Count an event; gives whether it passes."""
        began, count = self._windows.get(kind, (self._clock(), 0))
        self._windows[kind] = (began, count + 1)
        return count < self._burst

    def over(self) -> Iterator[Suppressed]:
        """End the intervals that have expired; yields those in which events did not pass.

        Call it before `admits`, and again an interval after the last event.
        """
        now = self._clock()
        for kind, (began, count) in list(self._windows.items()):
            if now - began >= self._interval:
                del self._windows[kind]
                if count > self._burst:
                    yield Suppressed(kind, count - self._burst, now - began)
