"""How fast counters grew in the last samples."""

from collections import deque
from collections.abc import Mapping


class Rates:
    """Keeps samples of counters over a window.

    Args:
        window: How many samples are kept. A rate is the growth from the oldest to the newest.
    """

    def __init__(self, window: int) -> None:
        self._samples: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=window)

    def sample(self, now: float, counters: Mapping[str, float]) -> None:
        """Add the counters' values at `now`, in seconds of a monotonic clock."""
        self._samples.append((now, counters))

    def per_second(self) -> dict[str, float]:
        """By counter, its growth per second; 0 with a single sample."""
        if not self._samples:
            return {}
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        seconds = now - began
        return {
            name: (value - first.get(name, 0)) / seconds if seconds > 0 else 0.0
            for name, value in last.items()
        }
