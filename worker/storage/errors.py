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

STALE = "the mount at {root} is stale (ESTALE): replace the pod, or mount the volume anew"
"""What is wrong with a root that its file server does not know any more, with what to put for `{root}`.

The NFS client marks the root of a mount for good where another directory answers in its place (it logs
"fileid changed"): the mount stays unusable when the old one is back.
"""


class StaleRootError(JobError):
    """The root's mount is stale, and no process can use it any more."""

    def __init__(self, root: PurePath) -> None:
        super().__init__(ErrorCode.STORAGE_ERROR, f"storage: {STALE.format(root=root)}")


@contextmanager
def root_errors(root: PurePath) -> Iterator[None]:
    """Map what can go wrong with the storage root itself.

    Raises:
        JobError: STORAGE_FULL, STORAGE_ERROR; for ESTALE a StaleRootError.
    """
    with storage_errors(root):
        try:
            yield
        except OSError as exc:
            if exc.errno == errno.ESTALE:
                raise StaleRootError(root) from exc
            raise


@contextmanager
def storage_errors(path: PurePath) -> Iterator[None]:
    """Map what can go wrong with a file or directory; the message names it.

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
