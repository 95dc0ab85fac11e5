"""Checks that a file is a sound zip: structure, and the CRC of every entry."""

import os
import struct
import threading
import zipfile
import zlib
from typing import BinaryIO

BLOCK_BYTES = 1024 * 1024
"""The most that is read or unpacked at once. zipfile keeps a whole central directory in memory, at several
times its size; in this much of one there is room for ten thousand entries, and a real bill has two."""

# Those of java.util.zip, which CC-FS writes with. zipfile unpacks the others without a bound on memory.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 1
"""The bit of an entry's flags that says so (APPNOTE.TXT 6.3.10, section 4.4.4)."""


class CorruptArchiveError(Exception):
    """The file is not a sound zip; the text says why, as one line."""


class StoppedError(Exception):
    """The check was told to stop before it was through."""


def check_archive(file: BinaryIO, stop: threading.Event) -> None:
    """Read every entry of a zip and compare its CRC; blocks, in bounded memory.

    Args:
        file: The file to check, open for reading.
        stop: Ends the check early once set: a gigabyte takes seconds.

    Raises:
        CorruptArchiveError: The file is not a sound zip, or is encrypted or packed in a way that
            cannot be checked.
        StoppedError: `stop` was set.
        OSError: The file cannot be read.
    """
    try:
        with zipfile.ZipFile(_BoundedReader(file)) as archive:
            entries = archive.infolist()
            _refuse_overlap(entries, file)
            for entry in entries:
                _read_through(archive, entry, stop)
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise CorruptArchiveError(f"the archive is not sound: {exc}") from exc
    except (NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error) as exc:
        # zipfile's own words for encryption, unknown versions and impossible offsets.
        raise CorruptArchiveError(f"the archive cannot be checked: {exc}") from exc


class _BoundedReader:
    """What zipfile reads through, so that no number in a hostile archive costs memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if size > BLOCK_BYTES:
            raise CorruptArchiveError(
                f"the archive's directory claims {size} bytes; at most {BLOCK_BYTES} are read"
            )
        # To the end means the last 64 KiB and the end record.
        return self._file.read(size if size >= 0 else BLOCK_BYTES)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_SET and offset < 0:
            raise CorruptArchiveError("the archive points outside of itself: it is not whole")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _refuse_overlap(entries: list[zipfile.ZipInfo], file: BinaryIO) -> None:
    """Entries that share their bytes would let a small file take for ever to read."""
    if sum(entry.compress_size for entry in entries) > file.seek(0, os.SEEK_END):
        raise CorruptArchiveError("the archive's entries overlap or are not whole")


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stop: threading.Event) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise CorruptArchiveError(f"the archive cannot be checked: {entry.filename} is encrypted")
    if entry.compress_type not in _METHODS:
        raise CorruptArchiveError(
            f"the archive cannot be checked: {entry.filename} is packed by method {entry.compress_type}"
        )
    with archive.open(entry) as content:
        while content.read(BLOCK_BYTES):
            if stop.is_set():
                raise StoppedError
