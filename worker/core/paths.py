"""Where a file lies under the storage root, and what it is called while it is incomplete."""

import re
from pathlib import PurePosixPath

from pydantic import ValidationError

from schemas import DownloadJob

PART_SUFFIX = ".part"
_PART = re.compile(rf"\.(?P<final>.+)\.[0-9a-z]+{re.escape(PART_SUFFIX)}")


def final_path(job: DownloadJob) -> PurePosixPath:
    """The path of a job's file, relative to the storage root: `{appId}/{yyyyMMdd}/{billFileName}`.

    It cannot leave the root: the model admits no separator and no leading dot in either field.
    """
    return PurePosixPath(job.app_id, job.bill_date, job.bill_file_name)


def part_name(final_name: str, unique: str) -> str:
    """The temporary name of an incomplete file, in the directory of its final name; the dot hides it.

    Args:
        final_name: The file's final name.
        unique: Digits and lower-case letters that no other attempt at this file has.
    """
    return f".{final_name}.{unique}{PART_SUFFIX}"


def is_part(path: PurePosixPath) -> bool:
    """Whether a path relative to the storage root is that of an incomplete file of ours, and no other's."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return False
    try:
        job = DownloadJob(app_id=path.parts[0], bill_file_name=match["final"])
    except ValidationError:
        return False
    return final_path(job).parent == path.parent
