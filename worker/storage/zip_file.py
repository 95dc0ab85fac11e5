"""Checks that a file is a sound zip: structure, and the CRC of every entry."""

import os
import struct
import zipfile
import zlib
from typing import BinaryIO

from worker.core.outcome import Listing, listing
from worker.storage.stop import Stop, StoppedError

BLOCK_BYTES = 1024 * 1024
"""The most that is read or unpacked in one step. zipfile keeps a whole central directory in memory, at
several times its size; in this much of one there is room for ten thousand entries, and a real
bill has two."""

# Those of java.util.zip, which CC-FS writes with. zipfile unpacks the others without a bound on memory.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 1
"""The bit of an entry's flags that says so (APPNOTE.TXT 6.3.10, section 4.4.4)."""
_END_SIGNATURE = b"PK\x05\x06"
_END_BYTES = 22
"""The size of the end record without its comment, whose length its last two bytes say (section 4.3.16)."""

# Deflate packs zeros 1,032 to 1. Records of calls, with a number and a time of their own in each line, come
# to 20 to 1 at most.
_ALWAYS_UNPACKED = 64 * 1024 * 1024
_MOST_UNPACKED_PER_BYTE = 100


def most_unpacked(packed: int) -> int:
    """The most bytes that an archive of `packed` bytes may unpack to: the CPU for its check has a bound."""
    return _ALWAYS_UNPACKED + _MOST_UNPACKED_PER_BYTE * packed


class CorruptArchiveError(Exception):
    """The file is not a sound zip; the text says why, as one line."""


def check_archive(file: BinaryIO, stop: Stop) -> Listing:
    """Read every entry of a zip, compare its CRC, and list them; blocks, in bounded memory and CPU.

    An archive whose entries unpack to more than `most_unpacked` of its size is refused without unpacking it:
    unchecked it must not count as sound, and a zip bomb is no bill. Bytes behind the end record, which may
    have a comment, are no part of a zip either. A gigabyte takes seconds, during which `stop` is looked at.

    Raises:
        CorruptArchiveError: The file is not a sound zip, or is encrypted or packed in a way that
            cannot be checked.
        StoppedError: `stop` was set.
        OSError: The file cannot be read.
    """
    try:
        with zipfile.ZipFile(_BoundedReader(file)) as archive:
            entries = archive.infolist()
            size = file.seek(0, os.SEEK_END)
            _refuse_rest(len(archive.comment), file, size)
            if sum(entry.compress_size for entry in entries) > size:
                # Entries that share their bytes would let a small file take for ever to read.
                raise CorruptArchiveError("the archive's entries overlap or are not whole")
            # zipfile unpacks no more of an entry than the directory says, and compares the CRC of that.
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > most_unpacked(size):
                raise CorruptArchiveError(
                    f"the archive is not checked: {size} bytes would unpack to {unpacked}; "
                    f"at most {most_unpacked(size)} are unpacked"
                )
            for entry in entries:
                _read_through(archive, entry, stop)
            return listing((entry.filename, entry.file_size) for entry in entries)
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise CorruptArchiveError(f"the archive is not sound: {exc}") from exc
    except (NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error) as exc:
        # What zipfile raises for encryption, unknown versions and impossible offsets.
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
        # zipfile reads to the end (-1) only from within the last 64 KiB and the end record.
        return self._file.read(size if size >= 0 else BLOCK_BYTES)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_SET and offset < 0:
            raise CorruptArchiveError("the archive points outside of itself: it is not whole")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _refuse_rest(comment: int, file: BinaryIO, size: int) -> None:
    # zipfile searches backwards for the end record, and ignores what stands behind it.
    file.seek(max(0, size - _END_BYTES - comment))
    end = file.read(_END_BYTES)
    if not end.startswith(_END_SIGNATURE) or int.from_bytes(end[-2:], "little") != comment:
        raise CorruptArchiveError("the archive is not sound: something follows its end record")


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stop: Stop) -> None:
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
