"""How much was done in each minute of the last hour."""

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

_MINUTES = 60

Counters = Mapping[str, int]


class History:
    """Keeps where counters stood when each of the last 60 minutes began; 61 small mappings at most."""

    def __init__(self) -> None:
        self._starts: deque[tuple[datetime, Counters]] = deque(maxlen=_MINUTES)
        self._latest: Counters = {}

    def sample(self, now: datetime, counters: Counters) -> None:
        """Note where the counters stand. More often is finer: a minute begins with its first sample."""
        minute = now.replace(second=0, microsecond=0)
        if not self._starts:
            self._starts.append((minute, dict.fromkeys(counters, 0)))
        while self._starts[-1][0] < minute:
            self._starts.append((max(self._starts[-1][0] + timedelta(minutes=1), minute - _HOUR), counters))
        self._latest = counters

    def minutes(self) -> Iterator[tuple[datetime, Counters]]:
        """Give each minute's begin and the growth in it, oldest first; the last one is not over yet."""
        ends = [*(counters for _, counters in self._starts), self._latest][1:]
        for (minute, begin), end in zip(self._starts, ends, strict=True):
            yield minute, {name: value - begin[name] for name, value in end.items()}


_HOUR = timedelta(minutes=_MINUTES)
