"""The downloads in flight: one for each file, however many messages ask for it.

A download is a task of its own that all deliveries asking for its file wait for: a redelivery after a lost
connection, or a second message for the same file, joins the running one instead of starting another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from schemas import DownloadJob, ErrorCode
from worker.core.accounts import Accounts
from worker.core.gate import Gate
from worker.core.outcome import StoredFile
from worker.core.pace import Pace
from worker.core.ports import Observer, Watch
from worker.core.progress import Progress
from worker.errors import DeferredError, JobError

log = structlog.stdlib.get_logger(__name__)


class UnwantedError(Exception):
    """A download was not begun: no delivery waited for it any more when its turn came."""


@dataclass(frozen=True, slots=True)
class Download:
    """A download as one of the jobs that wait for it sees it.

    Attributes:
        task: Ends in the file.
        progress: How far it has come.
        is_joined: True when another message had begun it.
    """

    task: asyncio.Task[StoredFile]
    progress: Progress
    is_joined: bool = False

    async def file(self) -> StoredFile:
        """Wait for the file. The download goes on when the caller is cancelled.

        Raises:
            JobError: The attempt failed.
            DeferredError: It cannot be made now.
            UnwantedError: It was not begun.
        """
        return await asyncio.shield(self.task)


class _Running(NamedTuple):
    task: asyncio.Task[StoredFile]
    progress: Progress
    wanted: list[Callable[[], bool]]


class Downloads:
    """Runs downloads.

    Args:
        fetch: Brings one file to storage; raises JobError.
        pace: Limits how many run concurrently.
        gate: No download begins while it is closed.
        accounts: Say which accounts are held: none of their files is downloaded meanwhile, but for a try.
        watches: Asked in order whether a failure is an outage; the first that says so ends the asking.
        observer: Counts every file downloaded.

    Attributes:
        accounts: Those given.
    """

    def __init__(
        self,
        fetch: Callable[[DownloadJob, Progress], Awaitable[StoredFile]],
        *,
        pace: Pace,
        gate: Gate,
        accounts: Accounts,
        watches: Sequence[Watch],
        observer: Observer,
    ) -> None:
        self._fetch = fetch
        self._pace = pace
        self._gate = gate
        self.accounts = accounts
        self._watches = watches
        self._observer = observer
        self._running: dict[DownloadJob, _Running] = {}

    def join(self, request: DownloadJob, is_wanted: Callable[[], bool]) -> Download:
        """Join the download that is running for a file, or start one.

        Args:
            request: The file.
            is_wanted: Whether the caller still waits. Asked when the download's turn comes: it begins if one
                of those who joined it still waits.
        """
        running = self._running.get(request)
        # A finished task stays in the table until its done callback has run. To join it would give this
        # caller the failure of another's attempt. To await it would not yield, so that the callback could
        # never run.
        is_joined = running is not None and not running.task.done()
        if running is None or not is_joined:
            running = self._start(request)
        else:
            log.debug("job.joined")
        running.wanted.append(is_wanted)
        return Download(running.task, running.progress, is_joined)

    @property
    def in_flight(self) -> int:
        """How many downloads are under way or wait for their place."""
        return len(self._running)

    def progress(self, request: DownloadJob) -> Progress | None:
        """How far the download of a file has come; None when none is in flight."""
        running = self._running.get(request)
        return None if running is None else running.progress

    async def stop(self) -> None:
        """Cancel what is running and wait until nothing of it is left."""
        tasks = {running.task for running in self._running.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, request: DownloadJob) -> _Running:
        progress = Progress()
        wanted: list[Callable[[], bool]] = []
        task = asyncio.create_task(self._run(request, wanted, progress))
        self._running[request] = running = _Running(task, progress, wanted)
        task.add_done_callback(lambda _: self._end(request, running))
        return running

    def _end(self, request: DownloadJob, running: _Running) -> None:
        # The next download of the file may have begun.
        if self._running.get(request) is running:
            del self._running[request]
        if not running.task.cancelled():
            # asyncio reports an exception that is never read.
            running.task.exception()

    async def _run(
        self, request: DownloadJob, wanted: Sequence[Callable[[], bool]], progress: Progress
    ) -> StoredFile:
        clock = asyncio.get_running_loop().time
        asked = clock()
        # Before it takes or waits for a place: a backlog of a held account costs the others none.
        self.accounts.check(request.app_id)
        async with self._pace.place(request.app_id):
            if not any(is_wanted() for is_wanted in wanted):
                raise UnwantedError("the connection was lost before the download began")
            if reasons := self._gate.reasons:
                raise DeferredError(f"intake is paused: {'; '.join(reasons.values())}")
            began = clock()
            progress.wait_seconds = began - asked
            log.debug("job.started")
            try:
                with self.accounts.trying(request.app_id):
                    file = await self._attempt(request, progress, began)
            finally:
                progress.download_seconds = clock() - began
                if progress.answer_seconds is not None:
                    self._observer.answered(progress.answer_seconds)
                if progress.sync_seconds is not None:
                    self._observer.synced(progress.sync_seconds)
            self._pace.succeeded(request.app_id, reused=file.reused)
            if not file.reused:
                for watch in self._watches:
                    watch.succeeded()
                self._observer.downloaded(file.size_bytes, progress.download_seconds)
            return file

    async def _attempt(self, request: DownloadJob, progress: Progress, began: float) -> StoredFile:
        try:
            return await self._fetch(request, progress)
        except JobError as error:
            if await self._is_outage(error):
                log.warning("job.outage", **error.log_fields)
                self._pace.collapse(error.message)
                raise DeferredError(error.message) from error
            self._pace.failed(request.app_id, error, began)
            if progress.signed is not None:
                self.accounts.answered(request.app_id, progress.signed, error)
            raise
        except Exception as exc:
            log.exception("job.defect")
            raise JobError(
                ErrorCode.INTERNAL_ERROR, f"a defect of the worker: {type(exc).__name__}; see its log"
            ) from exc

    async def _is_outage(self, error: JobError) -> bool:
        for watch in self._watches:
            if await watch.failed(error):
                return True
        return False
