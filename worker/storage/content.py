"""What is known of a file's bytes once they have passed by."""

import hashlib
import os
from pathlib import PurePosixPath
from typing import BinaryIO

from worker.core.outcome import Listing, StoredFile
from worker.core.ports import Chunk
from worker.storage.stop import Stop, StoppedError
from worker.storage.zip_file import BLOCK_BYTES, check_archive
from worker.storage.zip_stream import ZipWalk


class Content:
    """A file's bytes so far: counted in `size`, hashed, and checked as a zip."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._walk = ZipWalk()
        self._judged = Listing()

    @property
    def is_proven(self) -> bool:
        """Whether they proved to be a sound zip; if not, the file has to be judged as a whole."""
        return self._walk.proves_sound()

    def take(self, chunk: Chunk) -> None:
        """Take in the next ones; blocks for about a millisecond a MiB."""
        self.size += len(chunk)
        # Gives Python's lock up (above 2 KiB): threads hash on several cores, and the event loop goes on.
        self._digest.update(chunk)
        self._walk.feed(chunk)

    def read(self, file: BinaryIO, stop: Stop) -> None:
        """Take in a whole file, and judge it where its bytes prove nothing. Raises as `check_archive`."""
        while block := file.read(BLOCK_BYTES):
            if stop.is_set():
                raise StoppedError
            self.take(block)
        if not self.is_proven:
            self.judge(file, stop)

    def judge(self, file: BinaryIO, stop: Stop) -> None:
        """Check the file as a whole. Raises as `check_archive`."""
        self._judged = check_archive(file, stop)

    def stored(self, path: PurePosixPath, *, reused: bool) -> StoredFile:
        """Describe the file that has these bytes."""
        return StoredFile(
            path=str(path),
            size_bytes=self.size,
            sha256=self._digest.hexdigest(),
            reused=reused,
            listing=self._walk.listing() if self.is_proven else self._judged,
        )


def write_all(descriptor: int, chunk: Chunk) -> None:
    """Write all of a chunk to a file."""
    rest = memoryview(chunk)
    while rest:
        # write(2) may take less than it is given, and report no error: the error comes with the next call.
        rest = rest[os.write(descriptor, rest) :]
