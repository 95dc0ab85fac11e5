"""The files that the file server serves: sound zips of an exact size."""

import io
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

from schemas import MAX_ENTRIES

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BLOCK = 1 * MIB
_ENTRY = "20260131081500123456_call_{:02}.csv"
_SEED = 20260131


@dataclass(frozen=True, slots=True)
class Payload:
    """A kind of file.

    Attributes:
        name: Also the account whose jobs get it: the file server tells payloads apart by the appId.
        size: Its bytes.
        entries: The files in it.
    """

    name: str
    size: int
    entries: int = 1


SMALL = Payload("small", 20 * KIB)
MANY = Payload("many", 20 * KIB, entries=MAX_ENTRIES)
"""As many entries as an event lists."""
MEDIUM = Payload("medium", 4 * MIB)
LARGE = Payload("large", 512 * MIB)
HUGE = Payload("huge", 1 * GIB)
PAYLOADS = (SMALL, MANY, MEDIUM, LARGE, HUGE)


def write(payload: Payload, path: Path) -> None:
    """Write the zip: entries that do not compress, stored, which random numbers from a seed fill."""
    each, rest = divmod(payload.size - _overhead(payload.entries), payload.entries)
    block = random.Random(_SEED).randbytes(_BLOCK)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(payload.entries):
            size = each + (0 if number else rest)
            with archive.open(_info(number), "w") as entry:
                for _ in range(size // _BLOCK):
                    entry.write(block)
                entry.write(block[: size % _BLOCK])


def _overhead(entries: int) -> int:
    """The bytes of a zip around its entries."""
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        for number in range(entries):
            with archive.open(_info(number), "w"):
                pass
    return len(empty.getvalue())


def _info(number: int) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(_ENTRY.format(number))
