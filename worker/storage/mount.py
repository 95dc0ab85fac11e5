"""What is mounted at a directory, and whether it tells upper from lower case. Everything here blocks."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CASE_FOLDED = "{root} takes upper and lower case for the same: accounts App1 and app1 would share their files"
"""Why a directory cannot be the storage root, with what to put for `{root}`."""

PREFIX = ".ccfs-worker-check-"
"""A later trial removes what is left of one whose process died (`worker.storage.probe`)."""


def is_mount_point(directory: int) -> bool:
    """Whether an open directory lies on another device than the one above it.

    A bind mount from the same file system does not count: stat(2) does not tell it from a directory.
    """
    return os.stat("..", dir_fd=directory).st_dev != os.fstat(directory).st_dev


def folds_case(directory: int) -> bool:
    """Whether names in an open directory that differ in case alone are one, as on SMB, FAT or a folded ext4.

    Raises:
        OSError: It cannot be tried out: nothing can be made there.
    """
    name = f"{PREFIX}{uuid.uuid4().hex}"
    # The name is ours alone: it exists when this very call made it, and an NFS client had to repeat it.
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=directory)
    try:
        os.stat(name.upper(), dir_fd=directory)
    except FileNotFoundError:
        return False
    finally:
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=directory)
    return True


def has_mount(root: Path) -> bool:
    """Whether something is mounted at a directory. Raises OSError when it cannot be opened."""
    with opened(root) as directory:
        return is_mount_point(directory)


def is_case_folded(root: Path) -> bool:
    """Whether a directory is known to fold case; one in which nothing can be made now is not."""
    with suppress(OSError), opened(root) as directory:
        return folds_case(directory)
    return False


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Hold a descriptor of a directory. Raises OSError when it cannot be opened."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)
