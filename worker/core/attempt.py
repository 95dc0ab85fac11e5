"""One attempt at one file: from the request to a verified file on storage, within one deadline."""

import asyncio
from pathlib import PurePosixPath

import structlog

from schemas import DownloadJob, ErrorCode
from worker.core.accounts import Accounts
from worker.core.context import SPAN
from worker.core.outcome import StoredFile
from worker.core.paths import final_path
from worker.core.ports import Keys, Source, Store
from worker.core.progress import Progress
from worker.errors import JobError

log = structlog.stdlib.get_logger(__name__)


class Downloader:
    """Fetches files.

    Args:
        keys: The accounts' keys.
        source: CC-FS.
        store: The shared storage.
        accounts: Hear which keys CC-FS accepts.
        job_timeout: Seconds that one attempt may take in all.
    """

    def __init__(
        self, *, keys: Keys, source: Source, store: Store, accounts: Accounts, job_timeout: float
    ) -> None:
        self._keys = keys
        self._source = source
        self._store = store
        self._accounts = accounts
        self._job_timeout = job_timeout

    async def fetch(self, job: DownloadJob, progress: Progress | None = None) -> StoredFile:
        """Bring a job's file to the storage, or find that it is already there.

        Args:
            job: The file.
            progress: Records how far the attempt comes, if anybody reads it.

        Raises:
            JobError: The attempt failed.
        """
        progress = progress or Progress()
        try:
            async with asyncio.timeout(self._job_timeout):
                path = final_path(job)
                return await self._store.find(path) or await self._download(job, path, progress)
        except TimeoutError as exc:
            raise JobError(
                ErrorCode.TIMEOUT,
                f"the job took longer than {self._job_timeout:g} s",
                http_status=progress.http_status,
                asked=progress.asked,
            ) from exc

    async def _download(self, job: DownloadJob, path: PurePosixPath, progress: Progress) -> StoredFile:
        try:
            return await self._transfer(job, path, await self._keys.recent(job.app_id), progress)
        except JobError as error:
            if error.code is not ErrorCode.UNAUTHORIZED:
                raise
        # The key may have been rotated since it was read.
        try:
            return await self._transfer(job, path, await self._keys.read(job.app_id), progress)
        except JobError as error:
            if error.code is ErrorCode.UNAUTHORIZED:
                error.add(await self._keys.about(job.app_id))
            raise

    async def _transfer(
        self, job: DownloadJob, path: PurePosixPath, secret_key: str, progress: Progress
    ) -> StoredFile:
        clock = asyncio.get_running_loop().time
        began = clock()
        progress.signed = signed = self._accounts.note_signing(job.app_id, secret_key)
        with SPAN.get().request():
            async with self._source.open(job, secret_key, progress) as stream:
                self._accounts.accepted(job.app_id, signed)
                progress.announced_bytes = announced = stream.announced_bytes
                progress.answer_seconds = seconds = clock() - began
                log.debug("job.answered", announced_bytes=announced, seconds=round(seconds, 3))
                with SPAN.get().write(path, progress):
                    return await self._store.store(
                        path, stream.chunks, announced_bytes=announced, progress=progress
                    )
