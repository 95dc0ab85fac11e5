"""How fast counters have grown of late."""

from collections import deque
from collections.abc import Mapping


class Rates:
    """Keeps samples of counters over a window.

    Args:
        window: Samples that are kept; the rate is taken between the oldest and the newest.
    """

    def __init__(self, window: int) -> None:
        self._samples: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=window)

    def sample(self, now: float, counters: Mapping[str, float]) -> None:
        """Take note where the counters stand at a time in seconds, monotonic."""
        self._samples.append((now, counters))

    def per_second(self) -> dict[str, float]:
        """By counter, its growth per second; 0 as long as there is only one sample."""
        if not self._samples:
            return {}
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        seconds = now - began
        return {
            name: (value - first.get(name, 0)) / seconds if seconds > 0 else 0.0
            for name, value in last.items()
        }
