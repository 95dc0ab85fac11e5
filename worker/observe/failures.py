"""The jobs that failed last, for the status: the log and the queue of failed jobs have them all."""

from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime, timedelta

_MOST = 500
_RECENT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed for good.

    Attributes:
        at: When.
        job_id: Its id.
        app_id: Its account; None when unreadable, as the file's name.
        bill_file_name: Its file.
        code: The error code.
        reason: The error message.
    """

    at: datetime
    job_id: str
    app_id: str | None
    bill_file_name: str | None
    code: str
    reason: str


class Failures:
    """Keeps the last 500."""

    def __init__(self) -> None:
        self._kept: deque[Failure] = deque(maxlen=_MOST)

    def add(self, failure: Failure) -> None:
        """Add the newest."""
        self._kept.append(failure)

    def newest(self, count: int) -> list[Failure]:
        """Give that many, newest first."""
        return list(self._kept)[: -count - 1 : -1]

    def by_account(self, now: datetime) -> Counter[str]:
        """Count those of the last hour by account, as far as they are kept."""
        return Counter(
            failure.app_id
            for failure in self._kept
            if failure.app_id is not None and now - failure.at <= _RECENT
        )
