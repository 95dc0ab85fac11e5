"""The messages of the contract: the job, the two outcomes, and the error codes."""

from schemas.errors import ErrorCode
from schemas.job import DownloadJob
from schemas.outcomes import (
    MAX_ENTRIES,
    MAX_ENTRY_NAME,
    ArchiveEntry,
    DownloadCompleted,
    DownloadFailed,
    FailedJob,
    Outcome,
    read_failed_job,
    read_outcome,
)
from schemas.types import MAX_BODY_BYTES, AppId, BillFileName

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_ENTRIES",
    "MAX_ENTRY_NAME",
    "AppId",
    "ArchiveEntry",
    "BillFileName",
    "DownloadCompleted",
    "DownloadFailed",
    "DownloadJob",
    "ErrorCode",
    "FailedJob",
    "Outcome",
    "read_failed_job",
    "read_outcome",
]
