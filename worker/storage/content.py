"""What is known of a file's bytes once they have passed by."""

import hashlib
import io
import os
import threading
from collections.abc import Sequence

from worker.core.outcome import Listing
from worker.storage.zip_file import check_archive, most_unpacked
from worker.storage.zip_stream import ZipWalk

_MOST_CHUNKS = os.sysconf("SC_IOV_MAX")
"""What one writev(2) takes."""

Bytes = bytes | memoryview


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

    def take(self, chunks: Sequence[Bytes]) -> None:
        """Take in the next ones; blocks for about a millisecond a MiB."""
        for chunk in chunks:
            self.size += len(chunk)
            self._digest.update(chunk)
            self._walk.feed(chunk)


def read_content(chunks: Sequence[bytes]) -> Content:
    """Take in a whole small file.

    Raises:
        CorruptArchiveError: It is no sound zip.
    """
    content = Content()
    content.take(chunks)
    if not content.is_proven:
        content.judged = check_archive(io.BytesIO(b"".join(chunks)), threading.Event())
    return content


def write_all(descriptor: int, chunks: Sequence[Bytes]) -> None:
    """Write chunks to a file, all of them."""
    rest = list(chunks)
    while rest:
        # A write may take less than it is given, as on a volume that is all but full.
        written = os.writev(descriptor, rest[:_MOST_CHUNKS])
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = memoryview(rest[0])[written:]
