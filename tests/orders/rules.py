"""What has to hold in every order of events, and the story of a run that broke it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from schemas import DownloadJob, Outcome
from tests.orders.loop import ShuffledLoop
from worker.core.job import Job

BEGINNING = datetime(2026, 1, 31, 8, tzinfo=UTC)
PROBE_INTERVAL, HOLD_AT_MOST = 5.0, 100.0
"""Seconds; see `worker.core.accounts.HoldPolicy`."""


class BrokenRuleError(Exception):
    """An order of events broke a rule; the text says which."""


class Rules:
    """Hears of everything that matters and ends the run when a rule is broken.

    Args:
        loop: Gives time and steps, and is stopped.
    """

    def __init__(self, loop: ShuffledLoop) -> None:
        self._loop = loop
        self.story: list[str] = []
        """What happened, one line an event."""
        self.outcomes: dict[str, list[Outcome]] = defaultdict(list)
        """What lies in the results queue, by job."""
        self.fetching: Counter[DownloadJob] = Counter()
        self.failed_at: dict[DownloadJob, int] = {}
        """The step in which the last attempt at a file failed."""

        self.now: Callable[[], datetime] = lambda: BEGINNING + timedelta(seconds=loop.time())
        self.with_key: set[str] = set()
        """The accounts of which the worker has seen a key."""
        self.accepted_at: dict[str, float] = {}
        """When the last request was sent of which CC-FS accepted the account's key."""
        self._tries: dict[str, list[float]] = defaultdict(list)
        """By held account, when each of its tries began, since it has been held."""
        self._trying: set[str] = set()

    @property
    def step(self) -> int:
        """The step in which the loop is."""
        return self._loop.steps

    def tell(self, event: str) -> None:
        """Write a line of the story, which ends with what broke."""
        if self._loop.breach is not None:
            return
        self.story.append(f"{self._loop.time():10.3f} {self._loop.steps:6} {event}")

    def require(self, holds: object, rule: str) -> None:
        """End the run unless something holds."""
        if not holds and self._loop.breach is None:
            self.tell(f"BROKEN: {rule}")
            self._loop.breach = BrokenRuleError(rule)

    def fetch_begins(self, request: DownloadJob, *, gate_is_open: bool) -> None:
        """An attempt at a file begins."""
        self.tell(f"fetch {request.bill_file_name}")
        self.require(gate_is_open, "nothing begins while the gate is closed")
        self.fetching[request] += 1
        self.require(self.fetching[request] == 1, "one file is fetched by one download at a time")

    def fetch_ended(self, request: DownloadJob, error: BaseException | None) -> None:
        """An attempt at a file is over."""
        self.tell(f"fetched {request.bill_file_name}: {error or 'stored'}")
        self.fetching[request] -= 1
        if error is not None:
            self.failed_at[request] = self._loop.steps

    @contextmanager
    def trying(self, app_id: str, held_since: datetime | None) -> Iterator[None]:
        """An attempt at a file of an account runs, which may be held."""
        if held_since is None:
            yield
            return
        tries = self._tries[f"{app_id} {held_since}"]
        self.require(app_id not in self._trying, "of a held account one job at a time is tried")
        lately = not tries or self._loop.time() - tries[-1] > PROBE_INTERVAL - 0.001
        self.require(lately, "a held account is tried once in an interval")
        tries.append(self._loop.time())
        self._trying.add(app_id)
        try:
            yield
        finally:
            self._trying.discard(app_id)

    def refused_for_good(self, job: Job, code: str) -> None:
        """A job fails for its account's key."""
        hold, app_id = job.hold, job.app_id or ""
        is_typo = code == "UNKNOWN_APP" and app_id not in self.with_key
        is_late = hold is not None and (self.now() - hold.since).total_seconds() >= HOLD_AT_MOST
        accepted = BEGINNING + timedelta(seconds=self.accepted_at.get(app_id, -1))
        is_its_own = hold is not None and hold.refused is not None and accepted > hold.refused
        self.require(
            is_typo or is_late or is_its_own,
            "a job fails for its key only after another's success, or a night",
        )

    def attempt_counted(self, request: DownloadJob | None, since: int) -> None:
        """A job that came in step `since` counts an attempt that failed."""
        self.require(
            request is None or self.failed_at.get(request, -1) >= since,
            "an attempt counts only if one was made while the job was in hand",
        )

    def loop_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Something was raised where nobody hears of it."""
        self.require(False, f"nothing is raised into the void: {context.get('exception', context)!r}")


class Tables:
    """The tables of a worker's parts: every container in them that is empty before anything happens."""

    def __init__(self, *parts: object) -> None:
        self._tables = [
            (part, name)
            for part in _with_parts(*parts)
            for name, table in vars(part).items()
            if isinstance(table, dict | list | set) and not table
        ]

    def leftovers(self, *, besides: AbstractSet[str]) -> list[str]:
        """Say what is still in them, and not in those called so."""
        filled = ((part, name, vars(part)[name]) for part, name in self._tables if name not in besides)
        return [f"{type(part).__name__}.{name}: {table}" for part, name, table in filled if table]


def _with_parts(*parts: object) -> list[object]:
    """Give parts and what of the worker they are made of themselves."""
    inner = [
        value
        for part in parts
        for value in vars(part).values()
        if hasattr(value, "__dict__") and any(_is_worker(base) for base in type(value).__mro__)
    ]
    return [*parts, *(_with_parts(*inner) if inner else ())]


def _is_worker(kind: type) -> bool:
    return kind.__module__.startswith("worker.")
