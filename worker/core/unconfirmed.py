"""Messages that the broker has not confirmed: refused ones, and those that it has not answered yet.

The publish timeout is here. After it a message is reported in readiness, status and log; it is not published
again. (A copy for `ccfs.failed` is left out after as long: `worker.core.deliveries`.)
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import structlog

_LEAST_WAIT = 0.001

log = structlog.stdlib.get_logger(__name__)


class _Sent(NamedTuple):
    at: float
    since: datetime


class Unconfirmed:
    """Knows, by delivery, why a message waits for the broker's confirm.

    A refusal counts immediately. Silence counts after `patience`: it is reported, and the message is not
    published again, since a slow broker may have taken it already.

    Args:
        patience: The publish timeout: seconds after which a message without a confirm is reported.
        clock: Gives the time, UTC and timezone-aware.
    """

    def __init__(self, patience: float, clock: Callable[[], datetime]) -> None:
        self._patience = patience
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._refusals: dict[object, str] = {}
        # In the order of publishing, so that the first has waited longest.
        self._sent: dict[object, _Sent] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False

    @property
    def problem(self) -> str:
        """Why messages wait, as one line; empty when none does."""
        if refusal := next(iter(self._refusals.values()), ""):
            return refusal
        return _late(next(iter(self._sent.values()))) if self._is_late else ""

    def problem_of(self, delivery: object) -> str:
        """Why a message of that delivery waits, as one line; empty when none does."""
        sent = self._sent.get(delivery)
        if sent is not None and self._has_waited(sent) >= self._patience:
            return _late(sent)
        return self._refusals.get(delivery, "")

    def sent(self, delivery: object) -> None:
        """Record that a message of a delivery is on its way."""
        self._sent[delivery] = _Sent(self._loop.time(), self._clock())
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._look)

    def refused(self, delivery: object, reason: str) -> None:
        """Record that the broker did not take the message, which will be published again."""
        self._refusals[delivery] = reason
        self._answer(delivery)

    def confirmed(self, delivery: object) -> float:
        """Record that the broker has taken the message. Returns how many seconds that took."""
        seconds = self._has_waited(self._sent[delivery])
        self._refusals.pop(delivery, None)
        self._answer(delivery)
        return seconds

    def forget(self, delivery: object) -> None:
        """The delivery is over: its messages are not waited for any more."""
        self._refusals.pop(delivery, None)
        self._answer(delivery)

    def _answer(self, delivery: object) -> None:
        self._sent.pop(delivery, None)
        if self._is_late and not self._overdue:
            self._is_late = False
            log.info("broker.confirms_again", waiting=len(self._sent))
            self._look()

    @property
    def _overdue(self) -> bool:
        oldest = next(iter(self._sent.values()), None)
        return oldest is not None and self._has_waited(oldest) >= self._patience

    def _look(self) -> None:
        """Report the oldest message if it is overdue, else look again when it would be."""
        self._timer = None
        oldest = next(iter(self._sent.values()), None)
        if oldest is None:
            return
        if self._overdue:
            self._is_late = True
            log.error("broker.confirms_late", reason=_late(oldest), waiting=len(self._sent))
            return
        # A timer may fire a tick of the clock early: looking again within that tick would spin until it ends.
        wait = max(_LEAST_WAIT, self._patience - self._has_waited(oldest))
        self._timer = self._loop.call_later(wait, self._look)

    def _has_waited(self, sent: _Sent) -> float:
        return self._loop.time() - sent.at


def _late(sent: _Sent) -> str:
    return (
        f"the broker has not confirmed a message since {sent.since:%Y-%m-%dT%H:%M:%SZ}: "
        "look for alarms (memory, disk) in its log"
    )
