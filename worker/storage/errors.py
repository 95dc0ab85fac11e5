"""The file system's errors in the words of the contract's error table."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from schemas import ErrorCode
from worker.errors import JobError
from worker.storage.zip_file import CorruptArchiveError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where there is no space, or no more for this user."""


@contextmanager
def storage_errors(path: PurePath) -> Iterator[None]:
    """Map what can go wrong with a file or directory.

    Args:
        path: What is worked on, for the message.

    Raises:
        JobError: STORAGE_FULL, STORAGE_ERROR, CORRUPT_ARCHIVE.
    """
    try:
        yield
    except OSError as exc:
        code = ErrorCode.STORAGE_FULL if exc.errno in FULL else ErrorCode.STORAGE_ERROR
        raise JobError(code, f"storage: {path}: {exc.strerror or exc}") from exc
    except CorruptArchiveError as exc:
        raise JobError(ErrorCode.CORRUPT_ARCHIVE, str(exc)) from exc
