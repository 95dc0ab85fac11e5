"""What is so now: read from the worker's parts for its metrics and its status."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from worker.core.deliveries import InHand, Intake
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.pace import Pace
from worker.errors import BrokerError
from worker.observe import status
from worker.observe.metrics import COMPLETED, FAILED, OK, Metrics, Readings
from worker.observe.rates import Rates
from worker.observe.status import State, Status, Step
from worker.supervisor import Supervisor
from worker.watches.descriptors import DESCRIPTORS
from worker.watches.upstream import FLOW_CONTROL, UPSTREAM
from worker.watches.volume import STORAGE, VolumeWatch

Check = Callable[[], str]
"""Gives an empty string when all is well, otherwise one line that says what is wrong; no I/O."""

DRAINING = "draining"
"""The reason under which no jobs are taken any more, beside those of the gate."""

_SAMPLE_INTERVAL = 5.0
_SAMPLES = 13
"""So that the oldest is a minute older than the newest."""
_LENGTHS_MAX_AGE = 2.0
_LENGTHS_TIMEOUT = 2.0
_LENGTHS_PAUSE = 10.0
"""Seconds for which RabbitMQ is not asked again after it was silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which worker this is."""

    version: str
    host: str
    started_at: datetime
    concurrency: int
    reserved_bytes: int


@dataclass(slots=True, kw_only=True)
class Board:
    """Looks at the worker's parts."""

    identity: Identity
    clock: Callable[[], datetime]
    metrics: Metrics
    gate: Gate
    draining: asyncio.Event
    pace: Pace
    downloads: Downloads
    intake: Intake
    supervisor: Supervisor
    volume: VolumeWatch
    _rates: Rates = field(default_factory=lambda: Rates(_SAMPLES))
    _lengths: "_Lengths" = field(init=False)

    def __post_init__(self) -> None:
        self._lengths = _Lengths(self.supervisor.queue_lengths)

    @property
    def checks(self) -> Mapping[str, Check]:
        """What has to be well for the worker to be ready."""
        return {
            "broker": self.supervisor.problem,
            "intake": self.supervisor.pause,
            "results": lambda: self.intake.unconfirmed,
        }

    def readings(self) -> Readings:
        """What the metrics' gauges show."""
        return Readings(
            in_flight=self.intake.in_flight,
            downloads=self.downloads.in_flight,
            concurrency_limit=self.pace.limit,
            paused=dict.fromkeys((STORAGE, UPSTREAM, FLOW_CONTROL, DESCRIPTORS, DRAINING), False)
            | dict.fromkeys(self._pauses(), True),
            checks={name: not check() for name, check in self.checks.items()},
            free_bytes=self.volume.free_bytes,
            reserved_bytes=self.identity.reserved_bytes,
            storage_silence=self.volume.silence,
            left_behind=self.volume.left_behind,
        )

    async def keep_rates(self) -> None:
        """Take samples of the counters again and again."""
        now = asyncio.get_running_loop().time
        while True:
            self._rates.sample(now(), self._counters())
            await asyncio.sleep(_SAMPLE_INTERVAL)

    async def report(self) -> Status:
        """Say everything; asks RabbitMQ for the queues' lengths unless it did so just now."""
        identity, now = self.identity, self.clock()
        return Status(
            version=identity.version,
            host=identity.host,
            now=now,
            started_at=identity.started_at,
            uptime_seconds=(now - identity.started_at).total_seconds(),
            state=self._state(),
            checks={name: _check(problem=check()) for name, check in self.checks.items()},
            intake=self._intake(),
            session=status.Session(
                connected=not self.supervisor.problem(), opened=int(self.metrics.sessions[()])
            ),
            queues=await self._lengths.read(),
            rates=status.Rates(**self._rates.per_second()),
            totals=self._totals(),
            storage=status.Storage(
                free_bytes=None if math.isnan(self.volume.free_bytes) else int(self.volume.free_bytes),
                reserved_bytes=identity.reserved_bytes,
                silent_seconds=round(self.volume.silence, 1),
            ),
            jobs=[self._job(held, now) for held in self.intake.in_hand],
        )

    def _state(self) -> State:
        if self.draining.is_set():
            return State.DRAINING
        if self.supervisor.problem():
            return State.DISCONNECTED
        return State.PAUSED if self.gate.reasons else State.WORKING

    def _pauses(self) -> dict[str, str]:
        draining = {DRAINING: "told to end"} if self.draining.is_set() else {}
        return self.gate.reasons | draining

    def _intake(self) -> status.Intake:
        pauses = self._pauses()
        return status.Intake(
            open=not pauses,
            pauses=pauses,
            in_flight=self.intake.in_flight,
            downloads=self.downloads.in_flight,
            concurrency=self.identity.concurrency,
            concurrency_limit=self.pace.limit,
        )

    def _counters(self) -> dict[str, float]:
        totals = self._totals()
        return {
            "completed": totals.completed,
            "failed": totals.failed,
            "retried": sum(self.metrics.retries.values()),
            "downloaded_bytes": totals.downloaded_bytes,
        }

    def _totals(self) -> status.Totals:
        metrics = self.metrics
        failed = {
            code: int(count)
            for (outcome, code), count in metrics.outcomes.items()
            if outcome == FAILED and count
        }
        return status.Totals(
            completed=int(metrics.outcomes[COMPLETED, OK]),
            failed=sum(failed.values()),
            attempts_failed={
                code: int(count) for (code,), count in metrics.attempts.items() if code != OK and count
            },
            outcomes_failed=failed,
            downloaded_bytes=int(metrics.downloaded_bytes[()]),
        )

    def _job(self, held: InHand, now: datetime) -> status.JobInHand:
        job = held.job
        progress = None if job.request is None else self.downloads.progress(job.request)
        return status.JobInHand(
            job_id=job.job_id,
            app_id=job.app_id,
            bill_file_name=job.bill_file_name,
            attempt=job.attempt,
            since=held.since,
            seconds=(now - held.since).total_seconds(),
            step=_step(has_begun=None if progress is None else progress.has_begun),
            received_bytes=0 if progress is None else progress.received_bytes,
            announced_bytes=None if progress is None else progress.announced_bytes,
            problem=held.unconfirmed,
        )


class _Lengths:
    """Asks for the queues' lengths, one question at a time, and never makes anybody wait for long.

    Those who come while a question is under way share it. After an answer none is asked for a while, and for
    longer after silence: the last numbers stand meanwhile, with their age.
    """

    def __init__(self, ask: Callable[[], Awaitable[dict[str, int]]]) -> None:
        self._ask = ask
        self._question: asyncio.Task[None] | None = None
        self._ready: dict[str, int] = {}
        self._answered_at = -math.inf
        self._next_at = -math.inf

    async def read(self) -> status.Queues:
        now = asyncio.get_running_loop().time
        if self._question is None and now() >= self._next_at:
            self._question = asyncio.create_task(self._put())
            self._next_at = now() + _LENGTHS_TIMEOUT
        if self._question is not None:
            # One that goes on after its time was over, as while its channel is being closed, holds nobody up.
            await asyncio.wait({self._question}, timeout=max(0, self._next_at - now()))
        age = now() - self._answered_at
        return status.Queues(ready=self._ready, age_seconds=None if math.isinf(age) else round(age, 1))

    async def _put(self) -> None:
        now = asyncio.get_running_loop().time
        pause = _LENGTHS_MAX_AGE
        try:
            async with asyncio.timeout(_LENGTHS_TIMEOUT):
                self._ready, self._answered_at = await self._ask(), now()
        except BrokerError:
            # Said without delay, as by a worker that has no session; readiness has the reason.
            pass
        except TimeoutError:
            pause = _LENGTHS_PAUSE
        finally:
            self._question, self._next_at = None, now() + pause


def _check(*, problem: str) -> status.Check:
    return status.Check(ok=not problem, detail=problem)


def _step(*, has_begun: bool | None) -> Step:
    """Where a job stands, by whether its download has begun; None when there is none any more."""
    if has_begun is None:
        return Step.PUBLISHING
    return Step.DOWNLOADING if has_begun else Step.WAITING
