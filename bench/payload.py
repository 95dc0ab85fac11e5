"""The files that the file server serves: sound zips of an exact size."""

import io
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BLOCK = 1 * MIB
_ENTRY = "20260131081500123456_call.csv"
_SEED = 20260131


@dataclass(frozen=True, slots=True)
class Payload:
    """A kind of file.

    Attributes:
        name: Also the account whose jobs get it: the file server tells payloads apart by the appId.
        size: Its bytes.
    """

    name: str
    size: int


SMALL = Payload("small", 20 * KIB)
MEDIUM = Payload("medium", 4 * MIB)
LARGE = Payload("large", 512 * MIB)
HUGE = Payload("huge", 1 * GIB)
PAYLOADS = (SMALL, MEDIUM, LARGE, HUGE)


def write(payload: Payload, path: Path) -> None:
    """Write the zip: one entry that does not compress, stored, which random numbers from a seed fill."""
    content = payload.size - _overhead()
    block = random.Random(_SEED).randbytes(_BLOCK)
    with zipfile.ZipFile(path, "w") as archive, archive.open(_info(), "w") as entry:
        for _ in range(content // _BLOCK):
            entry.write(block)
        entry.write(block[: content % _BLOCK])


def _info() -> zipfile.ZipInfo:
    return zipfile.ZipInfo(_ENTRY)


def _overhead() -> int:
    """The bytes of a zip around its entry."""
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive, archive.open(_info(), "w"):
        pass
    return len(empty.getvalue())
