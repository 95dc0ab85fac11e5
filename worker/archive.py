"""Checks that a file is a sound zip: structure, and the CRC of every entry."""

import errno
import io
import struct
import threading
import zipfile
import zlib
from pathlib import Path

_BLOCK = 1024 * 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How entries may be packed: zipfile unpacks the others without a bound on what comes out at once."""

_ENCRYPTED = 1
"""The bit of an entry's flags that says so (APPNOTE.TXT 6.3.10, section 4.4.4)."""


class CorruptArchiveError(Exception):
    """The file is not a sound zip; the text says why, as one line."""


class StoppedError(Exception):
    """The check was told to stop before it was through."""


class _BoundedReader(io.BufferedReader):
    """Keeps zipfile from taking a central directory into memory that is as large as the file.

    zipfile reads it at once, whatever size the archive claims. A real bill has two entries, and a
    directory within the bound some ten thousand.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _BLOCK:
            raise CorruptArchiveError(
                f"the archive's directory claims {size} bytes; at most {_BLOCK} are read"
            )
        return super().read(_BLOCK if size is None or size < 0 else size)


def check_archive(path: Path, stop: threading.Event) -> None:
    """Read every entry of a zip and compare its CRC; blocks, in bounded memory.

    Args:
        path: The file to check.
        stop: Ends the check early once set: a gigabyte takes seconds.

    Raises:
        CorruptArchiveError: The file is not a sound zip, or is encrypted or packed in a way that
            cannot be checked.
        StoppedError: `stop` was set.
        OSError: The file cannot be read.
    """
    try:
        with _BoundedReader(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                _read_through(archive, entry, stop)
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise CorruptArchiveError(f"the archive is not sound: {exc}") from exc
    except (NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error) as exc:
        # zipfile's own words for features that it does not know and numbers that cannot be.
        raise CorruptArchiveError(f"the archive cannot be checked: {exc}") from exc
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        # An offset that no file can have; what a disk says when it fails is another errno.
        raise CorruptArchiveError("the archive points outside of itself") from exc


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stop: threading.Event) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise CorruptArchiveError(f"the archive cannot be checked: {entry.filename} is encrypted")
    if entry.compress_type not in _METHODS:
        raise CorruptArchiveError(
            f"the archive cannot be checked: {entry.filename} is packed by method {entry.compress_type}"
        )
    with archive.open(entry) as content:
        while content.read(_BLOCK):
            if stop.is_set():
                raise StoppedError
