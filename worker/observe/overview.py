"""Reads the worker's parts: for its readiness, its gauges and its status."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from worker.ccfs import CcfsClient
from worker.core.accounts import Accounts, HeldAccount
from worker.core.deliveries import Deliveries, InHand
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.pace import Pace
from worker.core.progress import Progress
from worker.observe.gauges import Readings
from worker.observe.history import History
from worker.observe.lengths import Lengths
from worker.observe.metrics import COMPLETED, FAILED, OK, Metrics, counts
from worker.observe.rates import Rates
from worker.observe.status import (
    AccountStatus,
    CheckStatus,
    FailureStatus,
    HoldStatus,
    IntakeStatus,
    JobStatus,
    MinuteStatus,
    QueuesStatus,
    RatesStatus,
    SessionStatus,
    State,
    Status,
    Step,
    StorageStatus,
    TotalsStatus,
)
from worker.supervisor import Supervisor
from worker.watches.descriptors import DESCRIPTORS
from worker.watches.keys import KEYS
from worker.watches.members import MemberWatch
from worker.watches.upstream import FLOW_CONTROL, UPSTREAM
from worker.watches.volume import STORAGE, VolumeWatch

Check = Callable[[], str]
"""Gives an empty string, or one line that says what is wrong; does no I/O."""

DRAINING = "draining"
"""Why no more jobs are taken while the worker drains; the gate has the other reasons."""

_SAMPLE_INTERVAL = 5.0
_ACCOUNTS, _FAILURES = 50, 10
_SAMPLES = 13
"""The oldest is a minute older than the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is fixed for the life of a worker."""

    version: str
    host: str
    started_at: datetime
    concurrency: int
    reserved_bytes: int
    queue_roles: Mapping[str, str]
    runbook: str


@dataclass(slots=True, kw_only=True)
class Overview:
    """Reads the worker's parts. Nothing but `report` does I/O."""

    identity: Identity
    clock: Callable[[], datetime]
    metrics: Metrics
    gate: Gate
    draining: asyncio.Event
    pace: Pace
    downloads: Downloads
    accounts: Accounts
    deliveries: Deliveries
    supervisor: Supervisor
    members: MemberWatch
    volume: VolumeWatch
    client: CcfsClient
    _rates: Rates = field(default_factory=lambda: Rates(_SAMPLES))
    _growth: Rates = field(default_factory=lambda: Rates(_SAMPLES))
    _history: History = field(default_factory=History)
    _lengths: Lengths = field(init=False)

    def __post_init__(self) -> None:
        self._lengths = Lengths(self.supervisor.queues)

    @property
    def checks(self) -> Mapping[str, Check]:
        """What has to be well for the worker to be ready."""
        return {
            "broker": self.supervisor.problem,
            "intake": self.supervisor.pause,
            "results": lambda: self.deliveries.unconfirmed,
            "ccfs": lambda: self.client.turned_away,
        }

    def readings(self) -> Readings:
        """What the metrics' gauges show."""
        now, oldest = self.clock(), self.deliveries.in_hand[:1]
        return Readings(
            in_flight=self.deliveries.in_flight,
            downloads=self.downloads.in_flight,
            concurrency_limit=self.pace.limit,
            paused=dict.fromkeys((STORAGE, KEYS, UPSTREAM, FLOW_CONTROL, DESCRIPTORS, DRAINING), False)
            | dict.fromkeys(self._pauses(), True),
            checks={name: not check() for name, check in self.checks.items()},
            # Not below 0, where somebody sets the clock back.
            oldest_job=max([0.0, *((now - held.since).total_seconds() for held in oldest)]),
            queue_messages=self._lengths.lately,
            queue_members=self.members.lately,
            certificate_end=self.client.certificate_end,
            space=self.volume.space,
            reserved_bytes=self.identity.reserved_bytes,
            storage_silence=self.volume.silence,
            hung_threads=self.volume.hung_threads,
            held=[(held.waiting, (now - held.since).total_seconds()) for held in self.accounts.held],
        )

    async def keep_rates(self) -> None:
        """Sample the counters every five seconds, until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            totals = self._totals()
            done = {
                "completed": totals.completed,
                "failed": totals.failed,
                "downloaded_bytes": totals.downloaded_bytes,
            }
            counters = done | {
                "retried": sum(counts(self.metrics.retries).values()),
                "deferred": self.metrics.deferred(),
            }
            self._rates.sample(now(), counters)
            self._history.sample(self.clock(), done)
            # A scrape, which does no I/O, shows them, too.
            queues = await self._lengths.read()
            # A number that is missing in one sample would look like growth in the next.
            is_new = queues.age_seconds is not None and queues.age_seconds < _SAMPLE_INTERVAL
            if is_new and not queues.unknown:
                self._growth.sample(now(), queues.ready)
            await asyncio.sleep(_SAMPLE_INTERVAL)

    async def report(self) -> Status:
        """The status; asks RabbitMQ for the lengths of the queues, see `Lengths`."""
        identity, now = self.identity, self.clock()
        problems = {name: check() for name, check in self.checks.items()}
        (opened,) = counts(self.metrics.sessions).values()
        return Status(
            version=identity.version,
            runbook=identity.runbook,
            host=identity.host,
            now=now,
            started_at=identity.started_at,
            uptime_seconds=(now - identity.started_at).total_seconds(),
            state=self._state(),
            checks={name: CheckStatus(ok=not problem, detail=problem) for name, problem in problems.items()},
            intake=self._intake(),
            session=SessionStatus(connected=not self.supervisor.problem(), opened=int(opened)),
            queues=self._with_roles(await self._lengths.read()),
            rates=RatesStatus(**self._rates.per_second()),
            totals=self._totals(),
            storage=StorageStatus(
                free_bytes=_known(self.volume.space.free_bytes),
                size_bytes=_known(self.volume.space.size_bytes),
                free_inodes=_known(self.volume.space.free_inodes),
                inodes=_known(self.volume.space.inodes),
                reserved_bytes=identity.reserved_bytes,
                silent_seconds=round(self.volume.silence, 1),
            ),
            minutes=[MinuteStatus(at=at, **counts) for at, counts in self._history.minutes()],
            accounts=self._accounts(now),
            failures=[
                FailureStatus(**asdict(failure)) for failure in self.metrics.failures.newest(_FAILURES)
            ],
            jobs=[self._job(held, now) for held in self.deliveries.in_hand],
        )

    def _pauses(self) -> dict[str, str]:
        draining = {DRAINING: "told to end"} if self.draining.is_set() else {}
        return self.gate.reasons | draining

    def _state(self) -> State:
        if self.draining.is_set():
            return State.DRAINING
        if self.supervisor.problem():
            return State.DISCONNECTED
        return State.PAUSED if self.gate.reasons else State.WORKING

    def _intake(self) -> IntakeStatus:
        pauses = self._pauses()
        return IntakeStatus(
            open=not pauses,
            pauses=pauses,
            paused_since=self.gate.since,
            in_flight=self.deliveries.in_flight,
            downloads=self.downloads.in_flight,
            concurrency=self.identity.concurrency,
            concurrency_limit=self.pace.limit,
            limit_reason=self.pace.why_limited,
        )

    def _with_roles(self, queues: QueuesStatus) -> QueuesStatus:
        roles = self.identity.queue_roles
        growth = self._growth.per_second()
        jobs = next((growth[name] for name, role in roles.items() if role == "jobs" and name in growth), None)
        return queues.model_copy(update={"roles": dict(roles), "jobs_per_second": jobs})

    def _accounts(self, now: datetime) -> list[AccountStatus]:
        jobs = [one for one in self.deliveries.in_hand if one.job.app_id is not None]
        in_hand = Counter(one.job.app_id for one in jobs)
        waiting = Counter(one.job.app_id for one in jobs if self._step(one) is Step.WAITING)
        failed = self.metrics.failures.by_account(now)
        holds = {one.app_id: _hold(one) for one in self.accounts.held}
        accounts = [
            AccountStatus(
                app_id=name,
                in_hand=in_hand[name],
                waiting=waiting[name],
                failed=failed[name],
                held=holds.get(name),
            )
            for name in {*in_hand, *failed, *holds}
            if name is not None
        ]
        accounts.sort(key=lambda one: (one.held is None, -one.failed, -one.in_hand, one.app_id))
        return accounts[:_ACCOUNTS]

    def _totals(self) -> TotalsStatus:
        outcomes = counts(self.metrics.outcomes)
        failed = {
            code: int(count) for (status, code), count in outcomes.items() if status == FAILED and count
        }
        attempts = counts(self.metrics.attempts)
        (downloaded_bytes,) = counts(self.metrics.downloaded_bytes).values()
        return TotalsStatus(
            completed=int(outcomes[COMPLETED, OK]),
            failed=sum(failed.values()),
            attempts_failed={code: int(count) for (code,), count in attempts.items() if code != OK and count},
            outcomes_failed=failed,
            downloaded_bytes=int(downloaded_bytes),
        )

    def _progress(self, held: InHand) -> Progress | None:
        return None if held.job.request is None else self.downloads.progress(held.job.request)

    def _step(self, held: InHand) -> Step:
        progress = self._progress(held)
        if progress is None:
            return Step.PUBLISHING
        return Step.DOWNLOADING if progress.has_begun else Step.WAITING

    def _job(self, held: InHand, now: datetime) -> JobStatus:
        job, progress = held.job, self._progress(held)
        return JobStatus(
            job_id=job.job_id,
            app_id=job.app_id,
            bill_file_name=job.bill_file_name,
            attempt=job.attempt,
            since=held.since,
            seconds=(now - held.since).total_seconds(),
            step=self._step(held),
            received_bytes=0 if progress is None else progress.received_bytes,
            announced_bytes=None if progress is None else progress.announced_bytes,
            problem=held.unconfirmed,
        )


def _known(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _hold(held: HeldAccount) -> HoldStatus:
    return HoldStatus(
        since=held.since,
        error_code=held.error.code,
        reason=held.error.message,
        tried_at=held.tried_at,
        waiting=held.waiting,
        fail_at=held.until,
    )
