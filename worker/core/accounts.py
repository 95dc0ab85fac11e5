"""Holds the jobs of an account whose key is refused: decides which wait, which one is tried, and which fail.

A refused key counts as the account's trouble until shown otherwise. Otherwise the jobs of a night would fail
one by one, for a key that is mended in the morning. So they wait in the broker. Each worker remembers what it
has seen of an account. The job itself carries when it was first held and when it was first refused, since it
may come back to another worker.

`Account` and `held_on` are pure. `Accounts` keeps one `Account` for each account that has had a key here.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from schemas import ErrorCode
from worker.core.job import Hold, Job
from worker.core.progress import Signed
from worker.errors import DeferredError, JobError

_HTTP_OK = 200
_LONGEST_WAIT = 5
"""The longest wait of a held job, in probe intervals. Jobs are let go as they come back: after a key was
mended, it takes this long until all of them are back."""
_SPREAD = 2000
"""The most held jobs of an account that come back in one probe interval. With the longest wait, 10,000 held
jobs cost the broker and the worker 33 messages a second."""
_SLOTS = 20
"""Waiting jobs are counted by slots of time; a probe interval has this many."""
_UNTOLD = frozenset({ErrorCode.UPSTREAM_ERROR, ErrorCode.INTERNAL_ERROR})
"""Failures with HTTP 200 that may come from a proxy, or from us: they say nothing about the key."""

log = structlog.stdlib.get_logger(__name__)


class AccountHeldError(DeferredError):
    """A job was not tried, because its account's key is refused.

    Attributes:
        error: The account's last refusal. A job that was held for too long fails with it.
    """

    def __init__(self, error: JobError) -> None:
        super().__init__(f"the account is held: {error.message}")
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPolicy:
    """How long jobs of a refused account wait.

    Attributes:
        at_most: Seconds from a job's first hold after which it fails; 0 holds no jobs.
        probe_interval: The least seconds between two tries of a held account.
    """

    at_most: float = 0.0
    probe_interval: float = 60.0

    @property
    def tier(self) -> float | None:
        """The most seconds that a held job waits before it comes back; None when no job is ever held."""
        return _LONGEST_WAIT * self.probe_interval if self.at_most else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that blames an account's key, or the lack of one.

    Attributes:
        error: Why the job failed.
        key: Which key was refused; None when there was none.
        at: When; UTC, timezone-aware.
    """

    error: JobError
    key: int | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a worker has seen of an account. Immutable: what happens next gives another one.

    Attributes:
        has_had_key: Whether there was a key.
        accepted: The newest request that CC-FS accepted the key of.
        refusal: The last refusal while its jobs are held; None while they are tried.
        since: When this worker began to hold them.
        tried_at: When it tried one of them last.
        is_trying: Whether it is trying one now.
    """

    has_had_key: bool = False
    accepted: Signed | None = None
    refusal: Refusal | None = None
    since: datetime | None = None
    tried_at: datetime | None = None
    is_trying: bool = False

    def may_try(self, now: datetime, interval: float) -> bool:
        """Whether a job may be tried now."""
        if self.refusal is None or self.tried_at is None:
            return True
        # A clock that was set back must not keep the account waiting.
        return not self.is_trying and not 0 <= (now - self.tried_at).total_seconds() < interval

    def refused(self, refusal: Refusal) -> "Account":
        """After a refusal that is the account's trouble."""
        return replace(self, refusal=refusal, since=self.since or refusal.at, tried_at=refusal.at)

    def succeeded(self, signed: Signed) -> "Account":
        """After CC-FS accepted the key of a request.

        One that was sent before the last refusal came says nothing about the key since then: a large file may
        still arrive long after its key was withdrawn.
        """
        newest = self.accepted is None or signed.at >= self.accepted.at
        seen = replace(self, accepted=signed) if newest else self
        return seen.let_go() if self.refusal is not None and signed.at > self.refusal.at else seen

    def shown(self, key: int) -> "Account":
        """After a look at its key file, which has this key."""
        return self.let_go() if self.refusal is not None and key != self.refusal.key else self

    def let_go(self) -> "Account":
        """With its jobs tried from now on."""
        return replace(self, refusal=None, since=None, tried_at=None, is_trying=False)


def held_on(
    account: Account, was: Hold | None, refusal: Refusal, *, tried: bool, at_most: float
) -> Hold | None:
    """How a job that was refused, or whose account is held, goes on waiting; None when it fails.

    Args:
        account: Its account, before this refusal.
        was: How it was held before.
        refusal: Its own refusal, or its account's last one.
        tried: Whether it was refused itself.
        at_most: Seconds from its first hold after which it fails.
    """
    now = refusal.at
    since = now if was is None else min(was.since, now)
    if (now - since).total_seconds() >= at_most:
        return None
    if not tried:
        return Hold(since, None if was is None else was.refused)
    # A job that was held before had a key once, even if this worker started after it was lost.
    if refusal.error.code is ErrorCode.UNKNOWN_APP and not account.has_had_key and was is None:
        return None
    first, accepted = None if was is None else was.refused, account.accepted
    if first is not None and accepted is not None and accepted.key == refusal.key and accepted.at > first:
        # CC-FS has accepted the same key since: the job is refused for a reason of its own.
        return None
    return Hold(since, first or now)


class HeldAccount(NamedTuple):
    """An account whose jobs this worker holds.

    Attributes:
        app_id: Which.
        since: Since when.
        error: The last refusal.
        tried_at: When one of its jobs was tried last.
        waiting: Jobs that this worker has put to wait, and that have not come back yet.
        until: When jobs that wait since then fail.
    """

    app_id: str
    since: datetime
    error: JobError
    tried_at: datetime
    waiting: int
    until: datetime


class Accounts:
    """The accounts that had a key here, and which of them are held.

    Args:
        policy: How long jobs wait.
        clock: Gives the time, UTC and timezone-aware.
    """

    def __init__(self, policy: HoldPolicy, *, clock: Callable[[], datetime]) -> None:
        self._policy = policy
        self._clock = clock
        # One entry for each account that ever had a key here: no publisher can add to it.
        self._known: dict[str, Account] = {}
        self._returns: dict[str, HeldReturns] = {}

    @property
    def held(self) -> list[HeldAccount]:
        """The accounts that are held, the longest first."""
        at_most = timedelta(seconds=self._policy.at_most)
        held = [
            HeldAccount(
                app_id=app_id,
                since=account.since,
                error=account.refusal.error,
                tried_at=account.tried_at,
                waiting=self._returns[app_id].waiting(self._clock().timestamp())
                if app_id in self._returns
                else 0,
                until=account.since + at_most,
            )
            for app_id, account in self._known.items()
            if account.refusal and account.since and account.tried_at
        ]
        return sorted(held, key=lambda account: account.since)

    def check(self, app_id: str) -> None:
        """Raise AccountHeldError unless a job of the account may be tried now."""
        account = self._known.get(app_id)
        if account is None or account.refusal is None:
            return
        if not account.may_try(self._clock(), self._policy.probe_interval):
            raise AccountHeldError(account.refusal.error)

    @contextmanager
    def trying(self, app_id: str) -> Iterator[None]:
        """Try a job of an account. Meanwhile no other job of a held account is tried.

        Raises:
            AccountHeldError: No job of the account may be tried now.
        """
        self.check(app_id)
        account = self._known.get(app_id)
        if account is None or account.refusal is None:
            yield
            return
        log.info("account.tried", app_id=app_id)
        probe = replace(account, tried_at=self._clock(), is_trying=True)
        self._known[app_id] = probe
        try:
            yield
        finally:
            # If the account was let go and held again meanwhile, the flag belongs to a later try.
            if self._known[app_id].since == probe.since:
                self._known[app_id] = replace(self._known[app_id], is_trying=False)

    def note_signing(self, app_id: str, secret_key: str) -> Signed:
        """Record that a request is about to be signed with an account's key."""
        account = self._known.get(app_id, Account())
        if not account.has_had_key:
            self._known[app_id] = replace(account, has_had_key=True)
        return Signed(hash(secret_key), self._clock())

    def accepted(self, app_id: str, signed: Signed) -> None:
        """Record that CC-FS accepted the key of a request."""
        self._become(app_id, self._known[app_id].succeeded(signed), "CC-FS accepts its key")

    def answered(self, app_id: str, signed: Signed, error: JobError) -> None:
        """Record that CC-FS refused a request. Some reasons show that its key is right."""
        if error.http_status == _HTTP_OK and error.code not in _UNTOLD:
            self.accepted(app_id, signed)

    def shown(self, app_id: str, secret_key: str) -> None:
        """Record the key that an account's key file has now."""
        account = self._known.get(app_id)
        if account is not None:
            self._become(app_id, account.shown(hash(secret_key)), "its key file has changed")

    def refused(self, job: Job, error: JobError, signed: Signed | None) -> Hold | None:
        """Record a job that failed. Return how it is held, or None when it does not wait for a key.

        Args:
            job: The job.
            error: Why it failed.
            signed: The last request that was made for it.
        """
        if job.app_id is None or error.code not in {ErrorCode.UNAUTHORIZED, ErrorCode.UNKNOWN_APP}:
            return None
        key = signed.key if signed is not None and error.code is ErrorCode.UNAUTHORIZED else None
        refusal = Refusal(error=error, key=key, at=self._clock())
        account = self._known.get(job.app_id, Account())
        hold = held_on(account, job.hold, refusal, tried=True, at_most=self._policy.at_most)
        if hold is not None and account.has_had_key:
            if account.refusal is None:
                log.warning("account.held", app_id=job.app_id, **error.log_fields)
            else:
                log.warning("account.still_refused", app_id=job.app_id, **error.log_fields)
            self._known[job.app_id] = account.refused(refusal)
        return hold

    def kept_waiting(self, job: Job, error: JobError) -> Hold | None:
        """Return how an untried job of a held account goes on waiting; None when it fails."""
        refusal = Refusal(error=error, key=None, at=self._clock())
        return held_on(Account(), job.hold, refusal, tried=False, at_most=self._policy.at_most)

    def wait(self, app_id: str) -> float:
        """Seconds for which the next held job of an account waits."""
        returns = self._returns.setdefault(app_id, HeldReturns(self._policy.probe_interval))
        return returns.next(self._clock().timestamp())

    def _become(self, app_id: str, account: Account, reason: str) -> None:
        if self._known[app_id].refusal is not None and account.refusal is None:
            log.warning("account.let_go", app_id=app_id, reason=reason)
        self._known[app_id] = account


class HeldReturns:
    """When the held jobs of one account come back: one after the other, and counted.

    All wait in one queue, and RabbitMQ expires messages only at the head of a queue. So each wait has to end
    after the one before: a shorter one would last until those before it have ended.

    Args:
        interval: The least seconds that a job waits.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = float("-inf")
        self._slots: deque[tuple[float, int]] = deque()

    def next(self, now: float) -> float:
        """Seconds for which one more job waits, from now on."""
        longest = now + _LONGEST_WAIT * self._interval
        self._last = min(max(now + self._interval, self._last + self._interval / _SPREAD), longest)
        width = self._interval / _SLOTS
        slot = (self._last // width + 1) * width
        if self._slots and self._slots[-1][0] >= slot:
            last, count = self._slots.pop()
            self._slots.append((last, count + 1))
        else:
            self._slots.append((slot, 1))
        return self._last - now

    def waiting(self, now: float) -> int:
        """About how many have not come back yet."""
        while self._slots and self._slots[0][0] <= now:
            self._slots.popleft()
        return sum(count for _, count in self._slots)
