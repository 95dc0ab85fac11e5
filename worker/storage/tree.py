"""The directory tree under the storage root. Everything here blocks.

Each call goes down from the root anew and follows no link below it: whatever is planted in the tree, nothing
outside of it is created, read or replaced. It also finds the volume as it is now, not as it was when the
worker started. That takes one call (openat2(2)) where all is as usual. Where it is not, the walk tells why:
one directory descriptor at a time (openat(2)), making what is missing.
"""

import errno
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from schemas import ErrorCode
from worker.core.outcome import StoredFile
from worker.core.paths import is_part
from worker.errors import JobError
from worker.storage.content import Content
from worker.storage.errors import root_errors
from worker.storage.mount import CASE_FOLDED, folds_case, is_mount_point
from worker.storage.openat2 import open_unlinked
from worker.storage.stop import Stop
from worker.storage.trial import Trial, is_trial
from worker.storage.zip_file import CorruptArchiveError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK, open(2) of a FIFO in a file's place would wait for a writer for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# What open(2) says of a link under O_DIRECTORY | O_NOFOLLOW: Linux the first, POSIX the second.
_NO_DIRECTORY = frozenset({errno.ENOTDIR, errno.ELOOP})


class Space(NamedTuple):
    """What a volume has, as statvfs(3) says; NaN is unknown.

    Attributes:
        free_bytes: Bytes that unprivileged writers may still use.
        size_bytes: Its size.
        free_inodes: Files and directories that such writers may still make.
        inodes: All of them; NaN on a file system that has no such limit.
    """

    free_bytes: float = math.nan
    size_bytes: float = math.nan
    free_inodes: float = math.nan
    inodes: float = math.nan


class Look(NamedTuple):
    """What a look at the volume found.

    Attributes:
        space: What it has.
        is_tried: Whether it was tried to write a file.
        refusal: Why that failed, as one line; empty when it did not.
    """

    space: Space
    is_tried: bool = False
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class RootRules:
    """What holds for a root.

    Attributes:
        file_mode: Permissions of files; None leaves them to the process's umask.
        directory_mode: Those of the directories that are made, set-group-ID bit included.
        require_mount: Whether a volume has to be mounted at the root. One that was seen there has to be in
            any case.
    """

    file_mode: int | None = None
    directory_mode: int | None = None
    require_mount: bool = False


class Tree:
    """The files under a root: an existing directory, or a link to one."""

    def __init__(self, root: Path, rules: RootRules) -> None:
        self._root = root
        self.rules = rules
        # A look and a sweep may write theirs concurrently.
        self._trial, self._dated = Trial(), Trial()
        self._needs_mount = rules.require_mount
        self._device: int | None = None
        """The device of the root as last looked at and found to be usable."""
        with suppress(OSError, JobError):
            os.close(self._open_root())

    def look(self, *, write: bool = False) -> Look:
        """See whether the volume can be used.

        Args:
            write: Whether to write a trial file and remove it, besides reading.

        Raises:
            JobError: STORAGE_ERROR: the root cannot be read, or is not the one that it should be. A
                StaleRootError where no process can use it any more.
        """
        with root_errors(self._root):
            root = self._open_root()
            try:
                space = self.space(root)
                return Look(space, write, self._refusal(root) if write else "")
            finally:
                os.close(root)

    def space(self, directory: int) -> Space:
        """What the volume of an open directory has. Raises JobError STORAGE_ERROR when it is read-only."""
        volume = os.fstatvfs(directory)
        if volume.f_flag & os.ST_RDONLY:
            # As Linux leaves a volume whose disk has failed.
            raise JobError(ErrorCode.STORAGE_ERROR, f"storage: the volume at {self._root} is read-only")
        return Space(
            free_bytes=volume.f_bavail * volume.f_frsize,
            size_bytes=volume.f_blocks * volume.f_frsize,
            # No inodes at all means that they are made as needed, as btrfs and some file servers do.
            free_inodes=volume.f_favail if volume.f_files else math.nan,
            inodes=volume.f_files or math.nan,
        )

    @contextmanager
    def directory(self, path: PurePosixPath, *, make: bool = False) -> Iterator[int]:
        """Hold a descriptor of a directory under the root."""
        directory = self._open(path, make=make)
        try:
            yield directory
        finally:
            os.close(directory)

    def inspect(self, path: PurePosixPath, stop: Stop) -> StoredFile | None:
        """Return a file if it is there, whole and sound, and make sure that it is durable."""
        if self._is_absent(path):
            return None
        content = Content()
        try:
            with self.directory(path.parent) as directory:
                with open_to_read(path.name, directory) as file:
                    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        return None
                    content.read(file, stop)
                    # The worker that wrote it may have died before its fsync(2).
                    os.fsync(file.fileno())
                os.fsync(directory)
        except (FileNotFoundError, PermissionError, CorruptArchiveError):
            return None
        except OSError as exc:
            if exc.errno != errno.ELOOP:
                raise
            # A link in the file's place is as good as nothing: a rename replaces it, not what it leads to.
            return None
        return content.stored(path, reused=True)

    def subdirectories(self, path: PurePosixPath) -> list[tuple[PurePosixPath, float]]:
        """List what may be directories of ours in a directory, each with the Unix time of its last change.

        Raises:
            JobError: STORAGE_ERROR when the root cannot be read.
            OSError: The directory cannot be read.
        """
        with self.directory(path) as directory, os.scandir(directory) as entries:
            return [
                (path / entry.name, entry.stat(follow_symlinks=False).st_mtime)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]

    def now(self) -> float:
        """The Unix time by which the volume dates files; by this machine where none can be written.

        Raises:
            JobError: STORAGE_ERROR when the root cannot be read.
        """
        with self.directory(PurePosixPath()) as root:
            try:
                return self._dated.write(root)
            except OSError:
                # A volume that is full is swept, too: that makes room.
                return time.time()

    def sweep(self, path: PurePosixPath, written_before: float) -> tuple[int, int]:
        """Remove temporary files in a directory that nobody has written to since a Unix time.

        Returns:
            How many were removed, and how many younger ones stay.

        Raises:
            JobError: STORAGE_ERROR when the root cannot be read.
            OSError: The directory cannot be read, or a file in it not be removed.
        """
        removed = young = 0
        with self.directory(path) as directory, os.scandir(directory) as entries:
            for entry in entries:
                found = path / entry.name
                if not (is_part(found) or is_trial(found)) or not entry.is_file(follow_symlinks=False):
                    continue
                # Another worker's sweep may be quicker.
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime >= written_before:
                        young += 1
                        continue
                    os.unlink(entry.name, dir_fd=directory)
                    removed += 1
        return removed, young

    def _refusal(self, root: int) -> str:
        try:
            self._trial.write(root)
        except OSError as exc:
            if exc.errno == errno.ESTALE:
                raise
            return f"storage: nothing can be written to {self._root}: {exc.strerror or exc}"
        return ""

    def _is_absent(self, path: PurePosixPath) -> bool:
        """Whether nothing has that path, as is the case for almost every job; when in doubt, no."""
        try:
            os.close(open_unlinked(f"{self._root}/{path}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:
            # Where the volume is not mounted, every file is missing, and that says nothing.
            with root_errors(self._root):
                device = self._root.stat().st_dev
            return self._device == device
        except OSError:
            pass
        return False

    def _open(self, path: PurePosixPath, *, make: bool) -> int:
        """Open a directory in one call. Where that fails, walk to it, to make it or to say what is wrong."""
        try:
            directory = open_unlinked(f"{self._root}/{path}", _DIRECTORY)
        except OSError:
            pass
        else:
            if os.fstat(directory).st_dev == self._device:
                return directory
            os.close(directory)
        directory = self._open_root()
        try:
            for name in path.parts:
                parent, directory = directory, self._enter(name, directory, make=make)
                os.close(parent)
        except BaseException:
            os.close(directory)
            raise
        return directory

    def _open_root(self) -> int:
        with root_errors(self._root):
            root = os.open(self._root, _DIRECTORY)
            try:
                self._look_for_volume(root)
            except BaseException:
                os.close(root)
                raise
        return root

    def _look_for_volume(self, root: int) -> None:
        device, is_mounted = os.fstat(root).st_dev, is_mount_point(root)
        if self._needs_mount and not is_mounted:
            # Files written now would land on the disk below and be out of sight once the volume is back.
            raise JobError(ErrorCode.STORAGE_ERROR, f"storage: the volume is not mounted at {self._root}")
        if device != self._device and folds_case(root):
            raise JobError(ErrorCode.STORAGE_ERROR, f"storage: {CASE_FOLDED.format(root=self._root)}")
        self._needs_mount, self._device = is_mounted, device

    def _enter(self, name: str, parent: int, *, make: bool) -> int:
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent)
            # Its name is made durable before anything lies in it; also when it is there: another worker may
            # have made it just now, or this very call did and was answered twice.
            os.fsync(parent)
            made = self._enter(name, parent, make=False)
            if self.rules.directory_mode is not None:
                # One that another user's worker made just now has its mode from there.
                with suppress(PermissionError):
                    os.fchmod(made, self.rules.directory_mode)
            return made
        except OSError as exc:
            if exc.errno not in _NO_DIRECTORY:
                raise
            raise JobError(ErrorCode.STORAGE_ERROR, f"storage: {name} is a link or no directory") from exc


def open_to_read(name: str, directory: int) -> BinaryIO:
    """Open a file in an open directory. Raises OSError: ELOOP for a link."""
    return open(name, "rb", opener=lambda name, _: os.open(name, _READ, dir_fd=directory))
