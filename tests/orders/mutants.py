"""Workers with one defect each: a net that finds none of them would prove nothing."""

import asyncio
from collections.abc import Awaitable, Callable

from schemas import DownloadJob, Outcome
from worker.core.deliveries import Delivery, Intake
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.job import Job
from worker.core.outcome import StoredFile
from worker.core.pace import Pace
from worker.errors import NotConfirmedError, SessionLostError


class RetriesWhatIsDone(Downloads):
    """Joins a download that is done, and tries again when that was given up: as this worker once did."""

    async def file(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> StoredFile:
        """Spin where the download in the table stays done."""
        while True:
            running = self._running.get(request) or self._start(request)
            running.wanted.append(is_wanted)
            try:
                return await asyncio.shield(running.task)
            except SessionLostError:
                if not is_wanted():
                    raise


class JoinsWhatIsDone(Downloads):
    """Gives the failure of an attempt that was over before the job came."""

    async def file(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> StoredFile:
        """Join whatever is in the table."""
        running = self._running.get(request) or self._start(request)
        running.wanted.append(is_wanted)
        return await asyncio.shield(running.task)


class FollowsOneDelivery(Downloads):
    """Gives a download up when the delivery that began it is lost, whoever else waits for it."""

    async def file(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> StoredFile:
        """Listen to the first one only."""
        running = self._running.get(request)
        if running is None or running.task.done():
            running = self._start(request)
            running.wanted.append(is_wanted)
        return await asyncio.shield(running.task)


class AcksFirst(Intake):
    """Acknowledges a job before its event is confirmed."""

    async def _conclude(self, delivery: Delivery, job: Job, outcome: Outcome) -> None:
        await delivery.ack()
        await super()._conclude(delivery, job, outcome)


class RepeatsWhatIsLate(Intake):
    """Publishes again what is not confirmed in time."""

    async def _insist(self, delivery: Delivery, send: Callable[[], Awaitable[None]]) -> None:
        async def in_time() -> None:
            try:
                async with asyncio.timeout(15):
                    await send()
            except TimeoutError:
                raise NotConfirmedError("late") from None

        await super()._insist(delivery, in_time)


class CancelsWhatHasNotBegun(Intake):
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
