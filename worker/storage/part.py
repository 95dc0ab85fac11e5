"""A file being written, under a temporary name until it is whole, verified and durable. All of it blocks.

`worker.core.paths.part_name` formats that name, and `SharedStorage.store` makes it unique. What a dead
worker left under one is swept (`worker.storage.sweep`), hourly by `worker.watches.volume`.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from schemas import ErrorCode
from worker.core.ports import Chunk
from worker.errors import JobError
from worker.storage.content import Content, write_all
from worker.storage.stop import Stop, StoppedError
from worker.storage.tree import Tree, open_to_read

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE = 0o666
"""Less the process's umask: other systems read the files."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the files under a root: see `worker.storage.SharedStorage`."""

    max_file_bytes: int
    min_free_bytes: int

    def check_size(self, size: int) -> None:
        """Raise JobError TOO_LARGE when a file of that many bytes is too large."""
        if size > self.max_file_bytes:
            raise JobError(
                ErrorCode.TOO_LARGE, f"the file has {size} bytes or more; the limit is {self.max_file_bytes}"
            )

    def check_space(self, size: int, free: float) -> None:
        """Raise JobError STORAGE_FULL when a file of that many bytes leaves too few free."""
        if free - size < self.min_free_bytes:
            raise JobError(
                ErrorCode.STORAGE_FULL,
                f"{free:.0f} bytes are free on the storage; this file needs {size} "
                f"and {self.min_free_bytes} stay free",
            )


class Part:
    """A file that is written under a temporary name beside its path, and then gets that or is discarded."""

    def __init__(self, tree: Tree, limits: Limits, path: PurePosixPath, name: str) -> None:
        self.content = Content()
        self._tree = tree
        self._limits = limits
        self._path = path
        self._name = name
        self._descriptor = -1

    def store(self, whole: Chunk, stop: Stop) -> float:
        """Store a whole file; on any failure nothing of it remains. Returns and raises as `finish`.

        Raises:
            JobError: STORAGE_FULL.
        """
        try:
            with self._tree.directory(self._path.parent, make=True) as directory:
                self._limits.check_space(len(whole), self._tree.space(directory).free_bytes)
                self._create(directory)
                self.take_in(whole)
                return self._finish(directory, stop)
        except BaseException:
            self.discard()
            raise

    def create(self, announced: int) -> None:
        """Open it, and make its directories. Raises JobError STORAGE_FULL if `announced` bytes do not fit."""
        with self._tree.directory(PurePosixPath()) as root:
            self._limits.check_space(announced, self._tree.space(root).free_bytes)
        with self._tree.directory(self._path.parent, make=True) as directory:
            self._create(directory)

    def take_in(self, chunk: Chunk) -> None:
        """Write, hash and check the next bytes; about a millisecond a MiB."""
        write_all(self._descriptor, chunk)
        self.content.take(chunk)

    def finish(self, stop: Stop) -> float:
        """Verify it, make it durable, and rename it to its final name, replacing a file there.

        The directory is reached anew: files on a volume that was unmounted meanwhile would be out of sight.

        Args:
            stop: Set when the file is no longer wanted.

        Returns:
            How many seconds it took to make its bytes durable.

        Raises:
            CorruptArchiveError: It is no sound zip.
            JobError: STORAGE_ERROR when what lies there is another file.
            StoppedError: `stop` was set before it had its name.
        """
        with self._tree.directory(self._path.parent) as directory:
            return self._finish(directory, stop)

    def discard(self) -> None:
        """Remove it, if the volume allows; otherwise a later sweep does."""
        with suppress(OSError):
            self._close()
        with suppress(OSError, JobError), self._tree.directory(self._path.parent) as directory:
            os.unlink(self._name, dir_fd=directory)

    def _create(self, directory: int) -> None:
        # Kept here: the task that asked for it may be gone when this call returns.
        self._descriptor = os.open(self._name, _NEW, _FILE_MODE, dir_fd=directory)
        if self._tree.rules.file_mode is not None:
            # The umask was taken from the mode above; fchmod(2) ignores it.
            os.fchmod(self._descriptor, self._tree.rules.file_mode)

    def _finish(self, directory: int, stop: Stop) -> float:
        if not self.content.is_proven:
            with open_to_read(self._name, directory) as file:
                self.content.judge(file, stop)
        began = time.monotonic()
        # Never tried again: Linux reports a failed write to one fsync(2), and then calls the pages clean.
        os.fsync(self._descriptor)
        seconds = time.monotonic() - began
        written = os.fstat(self._descriptor)
        # NFS may say only now that a quota is used up (close(2)).
        self._close()
        # Who may write in the directory can swap the file: only what was checked gets the name.
        if not _is_there(self._name, directory, written):
            raise JobError(ErrorCode.STORAGE_ERROR, f"storage: {self._path} was swapped for another file")
        if stop.is_set():
            # It may have hung until its job was given up: another worker may have made the file since.
            raise StoppedError
        _rename(self._name, self._path.name, directory, written)
        # Until then a power cut can undo the rename (fsync(2)).
        os.fsync(directory)
        return seconds

    def _close(self) -> None:
        # Forgotten first: Linux frees the number even when close(2) fails, and another file may have it then.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _rename(part: str, name: str, directory: int, written: os.stat_result) -> None:
    """Rename a file to its final name, replacing a file there.

    When the answer of an NFS server is lost, the client repeats its request, and the server no longer finds
    the old name: ENOENT for a rename that succeeded. The server's cache of answers helps only for a while
    (RFC 1813, section 4.4). So an error is ignored when the file has its final name.
    """
    try:
        os.replace(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            if _is_there(name, directory, written):
                return
        raise


def _is_there(name: str, directory: int, written: os.stat_result) -> bool:
    return os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), written)
