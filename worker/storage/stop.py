"""Asks a call on a thread to end early."""

import time


class StoppedError(Exception):
    """The call has ended early, since it was asked to."""


class Stop:
    """Asks a long call to end early; the call looks at it between its steps.

    Attributes:
        seen_at: When the call began or last looked, by `time.monotonic`: its last sign of life.
    """

    # Not a threading.Event, on which nobody waits here: each makes two locks, for each call of each job.
    __slots__ = ("_is_set", "seen_at")

    def __init__(self) -> None:
        self._is_set = False
        self.seen_at = 0.0

    def set(self) -> None:
        """Ask the call to end."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether the call shall end."""
        self.seen_at = time.monotonic()
        return self._is_set
