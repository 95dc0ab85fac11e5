"""Checks that a file is a sound zip: structure, and the CRC of every entry."""

import os
import struct
import threading
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1024 * 1024
_MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
"""zipfile keeps the whole central directory in memory; a real bill has two entries."""

# APPNOTE.TXT 6.3.10, section 4.3.16: signature, 8 bytes of numbers and counts, directory size,
# directory offset, comment length; the comment may have 65,535 bytes.
_END_RECORD = struct.Struct("<4s8xLLH")
_END_SIGNATURE = b"PK\x05\x06"
_MAX_COMMENT = 65535


class CorruptArchiveError(Exception):
    """The file is not a sound zip; the text says why, as one line."""


class StoppedError(Exception):
    """The check was told to stop before it was through."""


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
        with path.open("rb") as file:
            _check_directory_size(file)
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    _read_through(archive, entry, stop)
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise CorruptArchiveError(f"the archive is not sound: {exc}") from exc
    except (NotImplementedError, RuntimeError, ValueError, struct.error) as exc:
        # zipfile's own words for encryption, unknown compression methods and impossible offsets.
        raise CorruptArchiveError(f"the archive cannot be checked: {exc}") from exc


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stop: threading.Event) -> None:
    with archive.open(entry) as content:
        while content.read(_BLOCK):
            if stop.is_set():
                raise StoppedError


def _check_directory_size(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_COMMENT - _END_RECORD.size))
    tail = file.read()
    start = tail.rfind(_END_SIGNATURE)
    if start < 0 or len(tail) - start < _END_RECORD.size:
        raise CorruptArchiveError("the archive has no end record: it was cut off or is no zip")
    _, directory_bytes, _, _ = _END_RECORD.unpack_from(tail, start)
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise CorruptArchiveError(f"the archive's directory claims {directory_bytes} bytes")
    file.seek(0)
