"""A file on its way: under a hidden name until it is whole, verified and durable. Everything here blocks.

`worker.core.paths` makes the hidden name. `worker.storage.sweep` removes what a dead worker left under one.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath

from schemas import ErrorCode
from worker.core.ports import Chunk
from worker.errors import JobError
from worker.storage.content import Content, write_all
from worker.storage.tree import Identity, Tree, identity_of
from worker.storage.zip_file import StoppedError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE = 0o666
"""Less the process's umask: other systems read the files."""

Admit = Callable[[float], None]
"""Is given how many bytes are free before anything is written, and may raise."""


class Part:
    """A file that is written, and then gets its final name or is discarded.

    Args:
        tree: Where it lies.
        path: Its final path.
        name: Its hidden name beside that.

    Attributes:
        content: What is known of its bytes.
    """

    def __init__(self, tree: Tree, path: PurePosixPath, name: str) -> None:
        self.content = Content()
        self._tree = tree
        self._path = path
        self._name = name
        self._descriptor = -1

    def store(self, whole: Chunk, admit: Admit, stop: threading.Event) -> float:
        """Store a whole file; on any failure nothing of it remains. Returns and raises as `publish`."""
        try:
            with self._tree.directory(self._path.parent, make=True) as directory:
                admit(self._tree.space(directory).free_bytes)
                self._create(directory)
                self.take_in(whole)
                return self._publish(directory, stop)
        except BaseException:
            self.discard()
            raise

    def create(self, admit: Admit) -> None:
        """Open it, making its directories."""
        admit(self._tree.free_bytes())
        with self._tree.directory(self._path.parent, make=True) as directory:
            self._create(directory)

    def take_in(self, chunk: Chunk) -> None:
        """Write, hash and check the next bytes; about a millisecond a MiB."""
        write_all(self._descriptor, chunk)
        self.content.take(chunk)

    def publish(self, stop: threading.Event) -> float:
        """Verify it, make it durable, and give it its name in place of what has it.

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
            return self._publish(directory, stop)

    def discard(self) -> None:
        """Remove it, as far as the volume lets us; the sweep comes by later."""
        with suppress(OSError):
            self._close()
        with suppress(OSError, JobError), self._tree.directory(self._path.parent) as directory:
            os.unlink(self._name, dir_fd=directory)

    def _create(self, directory: int) -> None:
        # Kept here: the task that asked for it may be gone when this call returns.
        self._descriptor = os.open(self._name, _NEW, _FILE_MODE, dir_fd=directory)
        if self._tree.rules.file_mode is not None:
            # Past the umask, which took its part of the mode above.
            os.fchmod(self._descriptor, self._tree.rules.file_mode)

    def _publish(self, directory: int, stop: threading.Event) -> float:
        if not self.content.is_proven:
            self.content.judged = self._tree.check(self._name, directory, stop)
        began = time.monotonic()
        os.fsync(self._descriptor)
        seconds = time.monotonic() - began
        identity = identity_of(os.fstat(self._descriptor))
        # Some file systems tell only now that a quota is used up (close(2)).
        self._close()
        if identity_of(os.stat(self._name, dir_fd=directory, follow_symlinks=False)) != identity:
            raise JobError(ErrorCode.STORAGE_ERROR, f"storage: {self._path} was swapped for another file")
        if stop.is_set():
            # It may have hung until its job was given up: another worker may have made the file since.
            raise StoppedError
        _rename(self._name, self._path.name, directory, identity)
        os.fsync(directory)
        return seconds

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _rename(part: str, name: str, directory: int, identity: Identity) -> None:
    """Give a file its name, in place of what has it.

    A file server whose first answer got lost answers the repeated request by what it finds then, ENOENT (RFC
    1813, section 4.4, on the cache that helps only while it lasts). So an error is believed only when the
    file does not have its name.
    """
    try:
        os.replace(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        found = None
        with suppress(OSError):
            found = identity_of(os.stat(name, dir_fd=directory, follow_symlinks=False))
        if found != identity:
            raise
