"""How a delivery ends: with a file or without, for this worker and in the event that consumers read."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto
from typing import NamedTuple

from schemas import (
    MAX_ENTRIES,
    MAX_ENTRY_NAME,
    ArchiveEntry,
    DownloadCompleted,
    DownloadFailed,
    FailedJob,
    Outcome,
)
from worker.core.job import Envelope, Job
from worker.errors import JobError, one_line


class Ending(StrEnum):
    """How a delivery ended for this worker."""

    COMPLETED = auto()
    FAILED = auto()
    RETRIED = auto()
    DEFERRED = auto()
    HELD = auto()
    GIVEN_BACK = auto()
    LOST = auto()

    @property
    def is_attempt(self) -> bool:
        """Whether an attempt ended with the delivery; False when the job goes on as it came."""
        return self in {Ending.COMPLETED, Ending.FAILED, Ending.RETRIED}


class Listing(NamedTuple):
    """What a zip holds, as far as it goes into an event.

    Attributes:
        entries: The name and the unpacked size of its first files, in its order.
        total: How many files it holds.
    """

    entries: tuple[tuple[str, int], ...] = ()
    total: int = 0


_UNLISTED = Listing()


def listing(entries: Iterable[tuple[str, int]]) -> Listing:
    """List a zip.

    Args:
        entries: The name and the unpacked size of all that it holds. Names may be hostile.
    """
    # A directory is an entry whose name ends in a slash (APPNOTE.TXT 6.3.10, section 4.3.8, and zipfile).
    files = [entry for entry in entries if not entry[0].endswith("/")]
    shown = tuple((one_line(name, MAX_ENTRY_NAME), size) for name, size in files[:MAX_ENTRIES])
    return Listing(shown, len(files))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A whole, verified file that is durable under its final name.

    Attributes:
        path: Relative to the storage root, `/`-separated.
        size_bytes: Its size.
        sha256: Its digest, lower-case hex.
        reused: True when it was already there and nothing was downloaded.
        listing: What it holds.
    """

    path: str
    size_bytes: int
    sha256: str
    reused: bool
    listing: Listing = _UNLISTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """When one attempt ran (both UTC, timezone-aware) and on which host."""

    started_at: datetime
    finished_at: datetime
    worker: str


def completed(job: Job, file: StoredFile, execution: Execution) -> DownloadCompleted:
    """The event of a job whose file is on storage; `job` must be a valid one."""
    if job.request is None:
        raise ValueError("an invalid message cannot complete")
    return DownloadCompleted(
        job_id=job.job_id,
        app_id=job.request.app_id,
        bill_file_name=job.request.bill_file_name,
        path=file.path,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        entries=tuple(ArchiveEntry(name=name, size_bytes=size) for name, size in file.listing.entries),
        entry_count=file.listing.total,
        attempts=job.attempt,
        reused=file.reused,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
        worker=execution.worker,
    )


def failed(job: Job, error: JobError, execution: Execution) -> DownloadFailed:
    """The event of a job that is over without a file."""
    return DownloadFailed(
        job_id=job.job_id,
        app_id=job.app_id,
        bill_file_name=job.bill_file_name,
        error_code=error.code,
        error_message=error.message,
        result_code=error.result_code,
        http_status=error.http_status,
        attempts=job.attempt,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
        worker=execution.worker,
    )


def failed_job(event: DownloadFailed, envelope: Envelope) -> FailedJob:
    """The event of a job as it is kept for operators: with the job's body, unless that is cut or no text."""
    try:
        body = None if envelope.cut else envelope.body.decode()
    except UnicodeDecodeError:
        body = None
    return FailedJob(**dict(event), job=body)


def routing_key(outcome: Outcome) -> str:
    """`completed.{appId}`, `failed.{appId}`, or `failed` alone when there is no usable appId."""
    return f"{outcome.status}.{outcome.app_id}" if outcome.app_id else outcome.status
