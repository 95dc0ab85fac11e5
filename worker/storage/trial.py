"""Tries whether a volume takes files: a file server that refuses them may show that in nothing else.

statvfs(3) tells of a read-only mount. It does not tell of an export that turned read-only or squashes the
user, of a quota, or of a disk behind the file server that fails. Everything here blocks.
"""

import os
import re
import uuid
from contextlib import suppress
from pathlib import PurePosixPath

from worker.storage.content import write_all

_NAME = re.compile(r"\.ccfs-worker-look-[0-9a-f]{32}")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = bytes(4096)
"""Quotas and full disks show by a block: a file without any takes no space."""


def is_trial(path: PurePosixPath) -> bool:
    """Whether a path relative to the storage root is that of a trial's file, in this process or another."""
    return len(path.parts) == 1 and _NAME.fullmatch(path.name) is not None


class Trial:
    """Writes a trial file, and removes it.

    The name is always the same one, and no other process has it. So a directory in which files can be made
    and not be removed holds one of them, and not one for each time.
    """

    def __init__(self) -> None:
        self._name = f".ccfs-worker-look-{uuid.uuid4().hex}"

    def write(self, directory: int) -> float:
        """Make the file in an open directory, make it durable, and remove it.

        Returns:
            The Unix time that the volume dated it with: a file server has a clock of its own.

        Raises:
            OSError: The volume refuses one of that. The sweep removes what may be left.
        """
        self._remove(directory)
        descriptor = os.open(self._name, _NEW, 0o600, dir_fd=directory)
        try:
            write_all(descriptor, _BLOCK)
            os.fsync(descriptor)
            dated = os.fstat(descriptor).st_mtime
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        # Some file systems tell only now that a quota is used up (close(2)).
        os.close(descriptor)
        self._remove(directory)
        return dated

    def _remove(self, directory: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=directory)
