"""Decides what follows a failed attempt: how long the job waits in the broker, or that it is over.

Asked last. Before it, a failure may be an outage (`worker.core.downloads`: no attempt is counted, all jobs
wait), or a refused key (`worker.core.accounts`: the account's jobs wait). Jobs wait in a queue whose message
TTL is the delay: `worker.broker.topology`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from schemas import ErrorCode
from worker.errors import JobError


class Rule(Enum):
    """Whether a job that failed is tried again. docs/runbook.md ("Error codes") says it for each code."""

    NEVER = auto()
    """Over."""
    USUAL = auto()
    """After attempt n, the n-th delay."""
    SLOWER = auto()
    """After attempt n, the delay after the n-th."""
    FEW = auto()
    """As usual, with `not_found_attempts` attempts in all."""
    UNCOUNTED = auto()
    """Again without counting it: the fault is not the job's."""


RULES: Mapping[ErrorCode, Rule] = {
    ErrorCode.INVALID_JOB: Rule.NEVER,
    # Once `worker.core.accounts` no longer holds the job.
    ErrorCode.UNKNOWN_APP: Rule.NEVER,
    ErrorCode.UNAUTHORIZED: Rule.NEVER,
    ErrorCode.FILE_NOT_FOUND: Rule.FEW,
    ErrorCode.REQUEST_REJECTED: Rule.NEVER,
    ErrorCode.FLOW_CONTROL: Rule.SLOWER,
    ErrorCode.UPSTREAM_ERROR: Rule.USUAL,
    ErrorCode.UPSTREAM_UNREACHABLE: Rule.USUAL,
    ErrorCode.TIMEOUT: Rule.USUAL,
    ErrorCode.TRUNCATED: Rule.USUAL,
    ErrorCode.CORRUPT_ARCHIVE: Rule.USUAL,
    ErrorCode.TOO_LARGE: Rule.NEVER,
    ErrorCode.STORAGE_FULL: Rule.UNCOUNTED,
    ErrorCode.STORAGE_ERROR: Rule.USUAL,
    ErrorCode.DELIVERY_LIMIT: Rule.NEVER,
    ErrorCode.INTERNAL_ERROR: Rule.USUAL,
}


PARKED = (ErrorCode.INVALID_JOB, ErrorCode.DELIVERY_LIMIT)
"""Errors after which the message is also parked among the dead letters: only a human can judge it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The job waits `delay` seconds in the broker and comes back as attempt number `attempt`.

    A deferred job comes back with the number that it had.

    Attributes:
        delay: Seconds, the time to live of the queue that it waits in.
        attempt: Counted from 1.
        early: Seconds after which its copy expires, when that is less than the tier's delay; None to wait the
            whole delay. RabbitMQ expires messages only at the head of a queue, so it may take longer.
    """

    delay: float
    attempt: int
    early: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The waits between attempts and the bounds on their number.

    Attributes:
        delays: Seconds of each wait, in order; there is one more attempt than waits.
        not_found_attempts: Attempts in all while CC-FS says that the file does not exist.
        defer_delay: Delay of a deferred job when `delays` is empty, in seconds.
    """

    delays: tuple[float, ...]
    not_found_attempts: int = 3
    defer_delay: float = 5.0

    @property
    def tiers(self) -> tuple[float, ...]:
        """The waits, in seconds, that need a queue each; ascending, at least one."""
        return tuple(sorted(set(self.delays))) or (self.defer_delay,)

    def decide(self, error: JobError, attempt: int) -> Retry | None:
        """Say what follows when attempt number `attempt` failed with `error`; None gives up."""
        rule = RULES[error.code]
        if rule is Rule.UNCOUNTED:
            return self.defer(attempt)
        attempts = len(self.delays) + 1
        if rule is Rule.FEW:
            attempts = min(attempts, self.not_found_attempts)
        if rule is Rule.NEVER or attempt >= attempts:
            return None
        step = attempt + 1 if rule is Rule.SLOWER else attempt
        wait = self.delays[min(step, len(self.delays)) - 1]
        return Retry(self._at_least(max(wait, error.retry_after or 0)), attempt + 1)

    def defer(self, attempt: int, wait: float | None = None) -> Retry:
        """Send a job back without counting an attempt.

        Args:
            attempt: The attempt that it came as.
            wait: Seconds until its turn may come, which it spends in the shortest tier that has them; None
                is the shortest tier's whole wait.
        """
        if wait is None:
            return Retry(self.tiers[0], attempt)
        return Retry(self._at_least(wait), attempt, early=wait)

    def _at_least(self, seconds: float) -> float:
        return next((tier for tier in self.tiers if tier >= seconds), self.tiers[-1])


def backoff(failures: int, jitter: float, *, base: float = 0.5, cap: float = 30.0) -> float:
    """Seconds to wait after `failures` in a row: exponential with "equal jitter".

    Args:
        failures: How many attempts in a row have failed; 1 after the first.
        jitter: A random number in [0, 1).
        base: The first wait is from this to twice this, in seconds.
        cap: The longest wait in seconds.
    """
    ceiling = min(cap, base * 2.0 ** min(failures, 32))
    return ceiling / 2 + jitter * ceiling / 2


def tier_name(seconds: float) -> str:
    """What a wait is called in the names of queues and in metrics: `10s`, or `500ms`."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
