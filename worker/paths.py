"""Where a file lies under the storage root, and what it is called while it is incomplete."""

from pathlib import PurePosixPath

from schemas import DownloadJob

PART_SUFFIX = ".part"
PARTS_GLOB = f"*/*/.*{PART_SUFFIX}"
"""Finds the temporary files of every account and day, seen from the storage root."""


def final_path(job: DownloadJob) -> PurePosixPath:
    """The path of a job's file, relative to the storage root: `{appId}/{yyyyMMdd}/{billFileName}`.

    It cannot leave the root: the model admits no separator and no leading dot in either field.
    """
    return PurePosixPath(job.app_id, job.bill_date, job.bill_file_name)


def part_name(final_name: str, unique: str) -> str:
    """The hidden name of an incomplete file, in the directory of its final name."""
    return f".{final_name}.{unique}{PART_SUFFIX}"
