"""What is known of a file's bytes once they have passed by."""

import hashlib
import os

from worker.core.outcome import Listing
from worker.core.ports import Chunk
from worker.storage.zip_file import most_unpacked
from worker.storage.zip_stream import ZipWalk


class Content:
    """A file's bytes on their way to it: counted, hashed, and checked as a zip.

    Attributes:
        size: How many there were so far.
        judged: What the zip holds, as found when the file was judged as a whole.
    """

    def __init__(self) -> None:
        self.size = 0
        self.judged = Listing()
        self._digest = hashlib.sha256()
        self._walk = ZipWalk(most_unpacked)

    @property
    def sha256(self) -> str:
        """Their digest, lower-case hex."""
        return self._digest.hexdigest()

    @property
    def is_proven(self) -> bool:
        """Whether they proved to be a sound zip; if not, the file has to be judged as a whole."""
        return self._walk.proves_sound()

    @property
    def listing(self) -> Listing:
        """What the zip holds."""
        return self._walk.listing() if self.is_proven else self.judged

    def take(self, chunk: Chunk) -> None:
        """Take in the next ones; blocks for about a millisecond a MiB."""
        self.size += len(chunk)
        self._digest.update(chunk)
        self._walk.feed(chunk)


def write_all(descriptor: int, chunk: Chunk) -> None:
    """Write all of a chunk to a file: a write may take less, as on a volume that is all but full."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
