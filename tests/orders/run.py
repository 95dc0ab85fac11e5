"""One run: a worker's use case amid everything that its dependencies may do, in an order chosen by a seed."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from schemas import DownloadJob
from tests.orders.ccfs import Ccfs, Volume
from tests.orders.loop import FrozenError, ShuffledLoop, StuckError
from tests.orders.rabbit import Letter, Message, Rabbit
from tests.orders.rules import HOLD_AT_MOST, PROBE_INTERVAL, BrokenRuleError, Rules, Tables
from worker.core.accounts import Accounts, HoldPolicy
from worker.core.attempt import Downloader
from worker.core.deliveries import Deliveries
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.job import Job
from worker.core.outcome import Ending, StoredFile
from worker.core.pace import Pace
from worker.core.progress import Progress
from worker.core.retry import RetryPolicy
from worker.errors import JobError
from worker.watches.accounts import AccountWatch
from worker.watches.upstream import UpstreamWatch

_ACCOUNTS = ("a", "b", "c")
_CONCURRENCY = 4
_CALM = 3600
"""Seconds after the last trouble within which every job must have its outcome."""
_PAUSES = (0, 0, 0, 0.5, 0.5, 1, 2, 10)
"""Seconds between two events: coarse, as all waits here, so that much falls on one moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The classes that a run is made of: those of the worker, or a broken one to see it found."""

    downloads: type[Downloads] = Downloads
    deliveries: type[Deliveries] = Deliveries
    pace: type[Pace] = Pace
    gate: type[Gate] = Gate
    accounts: type[Accounts] = Accounts


class Unobserved:
    """Counts endings; hears of everything else."""

    def __init__(self) -> None:
        self.ended = 0

    def job_ended(
        self, ending: Ending, code: str, seconds: float, *, waited: float | None, age: float
    ) -> None:
        """A delivery is no longer ours."""
        self.ended += 1

    def retried(self, code: str, delay: float) -> None:
        """Unused."""

    def parked(self, code: str) -> None:
        """Unused."""

    def failed(self, job: Job, error: JobError) -> None:
        """Unused."""

    def failure_lost(self) -> None:
        """Unused."""

    def confirmed(self, seconds: float) -> None:
        """Unused."""

    def unconfirmed(self, *, unroutable: bool) -> None:
        """Unused."""

    def downloaded(self, size_bytes: int, seconds: float) -> None:
        """Unused."""

    def answered(self, seconds: float) -> None:
        """Unused."""

    def synced(self, seconds: float) -> None:
        """Unused."""


class World:
    """A worker and all that it depends on.

    Args:
        loop: Runs it.
        seed: Draws what happens.
        parts: What the worker is made of.
    """

    def __init__(self, loop: ShuffledLoop, seed: int, parts: Parts) -> None:
        self._dice = dice = random.Random(seed)
        self.rules = Rules(loop)
        loop.set_exception_handler(self.rules.loop_failed)
        self._rabbit = Rabbit(self.rules, dice, prefetch=_CONCURRENCY)
        self._gate = parts.gate()
        self._ccfs = Ccfs(dice, self.rules)
        self._volume = Volume(dice, self._gate)
        self._pace = parts.pace(
            concurrency=_CONCURRENCY,
            per_app=dice.choice((1, 2, _CONCURRENCY)),
            patience=dice.choice((0.5, 2, 60)),
            clock=loop.time,
        )
        self._upstream = UpstreamWatch(self._ccfs.probe, self._gate, pause_after=2, longest_pause=10)
        # Only in every other seed: held jobs are out of the way of most other trouble.
        self._holds = seed % 2 == 1
        self._rabbit.holds = self._holds
        at_most = HOLD_AT_MOST if self._holds else 0
        self._accounts = parts.accounts(
            HoldPolicy(at_most=at_most, probe_interval=PROBE_INTERVAL), clock=self.rules.now
        )
        downloader = Downloader(
            keys=self._ccfs,
            source=self._ccfs,
            store=self._volume,
            accounts=self._accounts,
            job_timeout=10,
        )
        self._fetch = downloader.fetch
        self._observer = Unobserved()
        self._downloads = parts.downloads(
            self._fetched,
            pace=self._pace,
            gate=self._gate,
            accounts=self._accounts,
            watches=[self._upstream, self._volume],
            observer=self._observer,
        )
        self._deliveries = parts.deliveries(
            self._downloads,
            policy=RetryPolicy(delays=(1.0, 10.0)),
            observer=self._observer,
            host="w",
            clock=self.rules.now,
        )
        self._tables = Tables(self._deliveries, self._upstream)
        self._draining = asyncio.Event()
        self._is_calm = False
        self._taken = 0
        self._jobs: dict[str, str] = {}

    async def run(self) -> None:
        """Make trouble; then either drain in the middle of it, or let it get well and wait for every job."""
        watching = [asyncio.create_task(self._upstream.run())]
        if self._holds:
            keys = AccountWatch(self._accounts, self._ccfs, interval=2)
            watching.append(asyncio.create_task(keys.run()))
        working = asyncio.create_task(self._work())
        for _ in range(self._dice.randint(5, 40)):
            await asyncio.sleep(self._dice.choice(_PAUSES))
            self._dice.choice(self._troubles())()
        if self._dice.random() < 0.5:
            await self._get_well()
        else:
            self._send_job()
        self._draining.set()
        await working
        for watch in watching:
            watch.cancel()
        await asyncio.sleep(1)
        self._check_end()

    def _troubles(self) -> list[Callable[[], None]]:
        usual = [self._send_job, self._rabbit.cut, self._toggle_ccfs]
        keys = [self._disturb_key] * 2 if self._holds else []
        return [self._send_job] * 4 + usual * 2 + [self._rabbit.delete_queue, *keys]

    def _send_job(self) -> None:
        """Send a job; there are few files, so that many jobs ask for one."""
        app_id, number = self._dice.choice(_ACCOUNTS), self._dice.randrange(3)
        job_id = f"j{len(self._jobs)}"
        body = f'{{"appId": "{app_id}", "billFileName": "20260131_{number}.zip"}}'
        if self._dice.random() < 0.05:
            body = "nonsense"
        self.rules.tell(f"send {job_id}: {app_id} {number}")
        self._jobs[job_id] = body
        self._rabbit.send(Message(job_id, body.encode()))

    def _disturb_key(self) -> None:
        self._ccfs.disturb_key(self._dice.choice(_ACCOUNTS))

    def _toggle_ccfs(self) -> None:
        self._ccfs.is_silent = not self._ccfs.is_silent
        self.rules.tell(f"CC-FS is {'silent' if self._ccfs.is_silent else 'there'}")

    async def _fetched(self, request: DownloadJob, progress: Progress) -> StoredFile:
        self.rules.fetch_begins(request, gate_is_open=self._gate.is_open)
        error: BaseException | None = None
        held = {account.app_id: account.since for account in self._accounts.held}
        try:
            with self.rules.trying(request.app_id, held.get(request.app_id)):
                return await self._fetch(request, progress)
        except BaseException as exc:
            error = exc
            raise
        finally:
            self.rules.fetch_ended(request, error)

    async def _work(self) -> None:
        """Hold one session after another, as `worker.supervisor` does, and drain in the last one."""
        while not self._draining.is_set():
            line = self._rabbit.connect(
                self._take(self._deliveries.receive), self._take(self._deliveries.receive_dropped)
            )
            while not (self._draining.is_set() or line.is_known_lost):
                if self._gate.is_open:
                    line.consume()
                    await _first(line.lost.wait(), self._draining.wait(), self._gate.wait_closed())
                else:
                    line.pause()
                    await _first(line.lost.wait(), self._draining.wait(), self._gate.wait_open())
            if not line.is_known_lost:
                line.pause()
                await self._deliveries.drain(self._dice.choice((0, 0.5, 0.5, 30)))
                await asyncio.sleep(self._dice.choice((0, 0.5)))
                await self._deliveries.drain(0)
                line.break_off()
                line.lose()
                return
            await asyncio.sleep(self._dice.choice((0, 0.5, 5)))
        await self._deliveries.drain(0)

    def _take(self, receive: Callable[[Letter], None]) -> Callable[[Letter], None]:
        def take(letter: Letter) -> None:
            self._taken += 1
            receive(letter)

        return take

    async def _get_well(self) -> None:
        self.rules.tell("all is well from now on")
        self._is_calm = self._rabbit.is_well = self._ccfs.is_well = self._volume.is_well = True
        self._ccfs.is_silent = False
        for app_id in _ACCOUNTS:
            self._ccfs.mend_key(app_id)
        until = asyncio.get_running_loop().time() + _CALM
        while self._rabbit.queued or self._rabbit.held or self._gate.reasons:
            await asyncio.sleep(5)
            if asyncio.get_running_loop().time() > until:
                self.rules.require(
                    False, "every job has its outcome, and the gate opens, within an hour of calm"
                )
                return
        for job_id in self._jobs:
            has_ended = self.rules.outcomes[job_id] or job_id in self._rabbit.thrown_away
            self.rules.require(has_ended, f"{job_id} has an outcome")
        for app_id in _ACCOUNTS:
            for _ in range(30):
                self._pace.succeeded(app_id)
        self.rules.require(self._pace.limit == _CONCURRENCY, "successes widen the window again")

    def _check_end(self) -> None:
        require = self.rules.require
        require(self._deliveries.in_flight == 0, "no delivery is in hand after the drain")
        require(not self._deliveries.unconfirmed, "no message waits for the broker after the drain")
        require(self._downloads.in_flight == 0, "no download is left after the drain")
        require(self._observer.ended == self._taken, "every delivery ends once")
        # How fast an account goes, when its jobs come back, and whether its key is right is kept beyond them;
        # so is an outage.
        beyond = {"_returns", "_known"}
        left = self._tables.leftovers(
            besides=beyond if self._is_calm else beyond | {"_app_windows", "_reasons"}
        )
        require(not left, f"nothing is left in a table: {left}")
        kept = self._rabbit.queued | self._rabbit.held | self._rabbit.thrown_away
        for job_id in self._jobs:
            require(self.rules.outcomes[job_id] or job_id in kept, f"{job_id} has an outcome or is queued")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        require(not others, f"no task is left: {others}")


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def run(seed: int, parts: Parts | None = None) -> tuple[BaseException | None, list[str]]:
    """Run a seed: what went wrong, or None, and the story."""
    random.seed(seed)
    loop = ShuffledLoop(seed, laggards=(0.0, 0.1, 0.4)[seed % 3])
    worlds: list[World] = []

    async def main() -> None:
        worlds.append(World(loop, seed, parts or Parts()))
        await worlds[0].run()

    try:
        loop.run(main())
    except (BrokenRuleError, FrozenError, StuckError) as exc:
        return exc, worlds[0].rules.story
    return loop.breach, worlds[0].rules.story
