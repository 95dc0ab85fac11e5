"""Workers with one defect each: a net that finds none of them would prove nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from schemas import DownloadJob, Outcome
from worker.core.accounts import Accounts
from worker.core.deliveries import Deliveries
from worker.core.downloads import Download, Downloads, UnwantedError
from worker.core.gate import Gate
from worker.core.job import Hold, Job
from worker.core.outcome import StoredFile
from worker.core.pace import Pace
from worker.core.ports import Delivery
from worker.core.progress import Signed
from worker.errors import JobError, NotConfirmedError, SessionLostError


class JoinsWhatIsDone(Downloads):
    """Gives the failure of an attempt that was over before the job came."""

    def join(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> Download:
        """Join whatever is in the table."""
        running = self._running.get(request) or self._start(request)
        running.wanted.append(is_wanted)
        return Download(running.task, running.progress)


class RetriesWhatIsDone(JoinsWhatIsDone):
    """Joins a download that is done, and tries again when that was given up: as this worker once did."""

    def join(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> Download:
        """Join whatever is in the table, again and again."""
        joined = super().join(request, is_wanted)
        join = partial(super().join, request, is_wanted)
        return _Retried(joined.task, joined.progress, join=join, is_wanted=is_wanted)


@dataclass(frozen=True, kw_only=True)
class _Retried(Download):
    join: Callable[[], Download]
    is_wanted: Callable[[], bool]

    async def file(self) -> StoredFile:
        """Spin where the download in the table stays done."""
        joined = Download(self.task, self.progress)
        while True:
            try:
                return await joined.file()
            except UnwantedError:
                if not self.is_wanted():
                    raise
            joined = self.join()


class FollowsOneDelivery(Downloads):
    """Gives a download up when the delivery that began it is lost, although others wait for it."""

    def join(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> Download:
        """Listen to the first one only."""
        running = self._running.get(request)
        if running is None or running.task.done():
            running = self._start(request)
            running.wanted.append(is_wanted)
        return Download(running.task, running.progress)


class AcksFirst(Deliveries):
    """Acknowledges a job before its event is confirmed."""

    async def _conclude(self, delivery: Delivery, job: Job, outcome: Outcome) -> None:
        await delivery.ack()
        await super()._conclude(delivery, job, outcome)


class RepeatsWhatIsLate(Deliveries):
    """Publishes again what is not confirmed in time."""

    async def _publish(self, delivery: Delivery, send: Callable[[], Awaitable[None]]) -> None:
        async def in_time() -> None:
            try:
                async with asyncio.timeout(15):
                    await send()
            except TimeoutError:
                raise NotConfirmedError("late") from None

        await super()._publish(delivery, in_time)


class ForgetsOrphans(Deliveries):
    """Publishes nothing for a job whose queue was deleted."""

    async def _publish(self, delivery: Delivery, send: Callable[[], Awaitable[None]]) -> None:
        if delivery.orphaned:
            raise SessionLostError("no queue has it")
        await super()._publish(delivery, send)


class CancelsWhatHasNotBegun(Deliveries):
    """Cancels deliveries that came in as the drain ended, before they can be given back."""

    async def drain(self, grace: float) -> None:
        """Cancel all."""
        self._draining = True
        if self._handlers:
            await asyncio.wait(self._handlers.values(), timeout=grace)
        for handler in self._handlers.values():
            handler.cancel()
        await super().drain(grace=0)


class KeepsPlaces(Pace):
    """Keeps the place of a download that is cancelled."""

    def _leave(self, app_id: str) -> None:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            super()._leave(app_id)


class NeverCloses(Gate):
    """Lets jobs in whatever happens."""

    @property
    def reasons(self) -> dict[str, str]:
        """None."""
        return {}


class TriesHeldAccounts(Accounts):
    """Tries every job of a held account."""

    def check(self, app_id: str) -> None:
        """Let all through."""


class ForgetsTheFirstHold(Accounts):
    """Holds a job each time as if it were the first."""

    def refused(self, job: Job, error: JobError, signed: Signed | None) -> Hold | None:
        """Begin anew."""
        return super().refused(replace(job, hold=None), error, signed)


class BlamesTheJob(Accounts):
    """Lets a job fail that is refused again, whether or not another succeeded since."""

    def refused(self, job: Job, error: JobError, signed: Signed | None) -> Hold | None:
        """Give up at the second refusal."""
        hold = super().refused(job, error, signed)
        return None if job.hold is not None and job.hold.refused is not None else hold


class HoldsForever(Accounts):
    """Hears of no success and no key."""

    def accepted(self, app_id: str, signed: Signed) -> None:
        """Ignore it."""

    def shown(self, app_id: str, secret_key: str) -> None:
        """Ignore it."""
