"""The zips that the simulator serves. The same account, file, size and seed always give the same bytes.

A bill begins with rows of its own. One block of its account's rows of that day follows, repeated: gigabytes
take neither memory nor time, since the block is packed once and CRCs are combined.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import chain, islice
from random import Random
from typing import NamedTuple

from schemas.types import bill_date
from worker.simulator import crc
from worker.simulator.records import RecordedCall, call_row, make_call, record_row

BLOCK_BYTES = 256 * 1024
"""The size of the blocks of `Bill.blocks`."""
MIN_BILL_BYTES = 4096
"""The smallest bill that can be made: both files need a few rows."""

_RECORDED_CALLS = 4
"""Calls in each recording index."""
_SEVERAL_FROM = 32 * 1024
"""Bytes from which on a bill has two files of each kind. CC-FS numbers its files, since there can be several
(the vendor's pages cec_07_0831 and cec_07_4237)."""

# APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_HEADER = struct.Struct("<4s6H3L5H2L")
_ZIP64_END_RECORD = struct.Struct("<4sQ2H2L4Q")
_ZIP64_END_LOCATOR = struct.Struct("<4sLQL")
_END_RECORD = struct.Struct("<4s4H2LH")
_ZIP64_SIZES = struct.Struct("<2H2Q")
_VERSION = 45
_MAX_32 = 0xFFFFFFFF
_FIRST_DOS_DATE = 0x21

# RFC 1951, sections 3.2.4 and 3.2.6: a stored block, and an empty last block with fixed codes.
_STORED_BLOCK = struct.Struct("<BHH")
_LAST_BLOCK = b"\x03\x00"


class Packing(StrEnum):
    """How a bill's files are packed."""

    DEFLATED = "deflated"
    """As in a real zip: the rows shrink to about a quarter, and a check has to inflate them all."""
    STORED = "stored"
    """Not packed: to measure a transfer without the inflating."""


_REPEATED_CALLS = {Packing.DEFLATED: 80, Packing.STORED: 20}
"""Calls in the repeated block. More calls pack better; fewer leave less room to fill with own rows."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a bill: `data`, repeated `times`."""

    data: bytes
    times: int = 1

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.data) * self.times

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes, several repetitions in a piece."""
        repetitions = max(1, BLOCK_BYTES // max(1, len(self.data)))
        whole, rest = divmod(self.times, repetitions)
        if whole:
            piece = self.data * repetitions
            yield from (piece for _ in range(whole))
        yield self.data * rest


@dataclass(frozen=True, slots=True)
class Bill:
    """A zip that is built while it is read."""

    parts: tuple[Stretch, ...]

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return _total(self.parts)

    def blocks(self) -> Iterator[bytes]:
        """Yield its bytes in blocks of `BLOCK_BYTES`; the last one is shorter."""
        gathered = bytearray()
        for piece in chain.from_iterable(part.pieces() for part in self.parts):
            gathered += piece
            if len(gathered) >= BLOCK_BYTES:
                yield bytes(gathered[:BLOCK_BYTES])
                del gathered[:BLOCK_BYTES]
        for start in range(0, len(gathered), BLOCK_BYTES):
            yield bytes(gathered[start : start + BLOCK_BYTES])

    def sha256(self) -> str:
        """Its digest in lower-case hex; blocks for about a second per gigabyte."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Member:
    """A file inside the zip: its packed bytes, and the size and CRC of what they unpack to."""

    packed: tuple[Stretch, ...]
    size: int
    crc: int


def make_bill(
    app_id: str,
    bill_file_name: str,
    *,
    size_bytes: int,
    seed: int = 0,
    packing: Packing = Packing.DEFLATED,
    sound: bool = True,
) -> Bill:
    """Make a bill of an exact size.

    Args:
        app_id: The account that it belongs to.
        bill_file_name: Its name, `yyyyMMdd_{responseId}.zip`.
        size_bytes: Its exact size, from `MIN_BILL_BYTES`.
        seed: Another seed gives other bytes.
        packing: How its files are packed.
        sound: False gives its last call file a wrong CRC.

    Raises:
        ValueError: The size is too small.
    """
    if size_bytes < MIN_BILL_BYTES:
        raise ValueError(f"a bill has {MIN_BILL_BYTES} bytes or more, not {size_bytes}")
    date = bill_date(bill_file_name)
    random = Random(f"{seed}/{app_id}/{bill_file_name}")
    stem = f"{date}{random.randrange(24):02d}{random.randrange(10**10):010d}"
    numbers = range(1, 3 if size_bytes >= _SEVERAL_FROM else 2)
    names = [f"{stem}_{kind}_{number}.csv" for kind in ("record", "call") for number in numbers]
    block = _block(app_id, date, seed, packing)
    zip64 = size_bytes * (block.size // _total(block.packed) + 1) > _MAX_32

    calls = _calls(random, date)
    recorded = [list(islice(calls, _RECORDED_CALLS)) for _ in numbers]
    small = [_framed(b"".join(record_row(app_id, call) for call in some), packing) for some in recorded]
    small += [_framed(b"".join(call_row(app_id, call) for call in some), packing) for some in recorded[:-1]]
    rest = _archive(names, (*small, _framed(b"", packing)), packing, zip64=zip64)
    last = chain(recorded[-1], calls)
    own, times = _fill(app_id, last, size_bytes - _total(rest), _total(block.packed))
    call = _framed(own, packing, block, times)
    if not sound:
        call = replace(call, crc=call.crc ^ 1)
    return Bill(_archive(names, (*small, call), packing, zip64=zip64))


def _calls(random: Random, date: str) -> Iterator[RecordedCall]:
    day = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
    while True:
        yield make_call(random, day)


@lru_cache(maxsize=1024)
def _block(app_id: str, date: str, seed: int, packing: Packing) -> _Member:
    """The rows that are repeated in all bills of an account's day."""
    calls = islice(_calls(Random(f"{seed}/{app_id}/{date}"), date), _REPEATED_CALLS[packing])
    rows = b"".join(call_row(app_id, call) for call in calls)
    packed = rows
    if packing is Packing.DEFLATED:
        # A full flush ends on a whole byte and resets the window: only then can the bytes be repeated.
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = deflate.compress(rows) + deflate.flush(zlib.Z_FULL_FLUSH)
    return _Member((Stretch(packed),), len(rows), zlib.crc32(rows))


def _fill(app_id: str, calls: Iterator[RecordedCall], room: int, block_bytes: int) -> tuple[bytes, int]:
    """Fill `room` bytes: gives the bill's own rows, and how many blocks follow them."""
    rows = [call_row(app_id, call) for call in islice(calls, _RECORDED_CALLS)]
    times, free = divmod(room - sum(map(len, rows)), block_bytes)
    call = next(calls)
    while len(row := call_row(app_id, call)) <= free:
        rows.append(row)
        free -= len(row)
        call = next(calls)
    # The last column of the last row takes the bytes that are too few for another row.
    rows[-1] = rows[-1].removesuffix(b"\r\n") + b"0" * free + b"\r\n"
    return b"".join(rows), times


def _framed(own: bytes, packing: Packing, block: _Member | None = None, times: int = 0) -> _Member:
    """Pack a bill's own rows, which are stored, and the repeated block behind them."""
    packed = Stretch(own), *(Stretch(part.data, times) for part in (block.packed if block else ()))
    if packing is Packing.DEFLATED:
        head = _STORED_BLOCK.pack(0, len(own), len(own) ^ 0xFFFF)
        packed = Stretch(head), *packed, Stretch(_LAST_BLOCK)
    if block is None:
        return _Member(packed, len(own), zlib.crc32(own))
    size = block.size * times
    whole_crc = crc.joined(zlib.crc32(own), crc.repeated(block.crc, block.size, times), size)
    return _Member(packed, len(own) + size, whole_crc)


def _archive(
    names: Sequence[str], members: Sequence[_Member], packing: Packing, *, zip64: bool
) -> tuple[Stretch, ...]:
    parts: list[Stretch] = []
    directory = b""
    for name, member in zip(names, members, strict=True):
        header = _Header(name.encode(), member, packing, zip64)
        directory += header.in_directory(offset=_total(parts))
        parts += [Stretch(header.local()), *member.packed]
    count, offset = len(members), _total(parts)
    end = _END_RECORD.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), min(offset, _MAX_32), 0)
    if zip64:
        record = _ZIP64_END_RECORD.pack(
            b"PK\x06\x06", 44, _VERSION, _VERSION, 0, 0, count, count, len(directory), offset
        )
        end = record + _ZIP64_END_LOCATOR.pack(b"PK\x06\x07", 0, offset + len(directory), 1) + end
    return *parts, Stretch(directory + end)


class _Header(NamedTuple):
    """The header of a member; the directory repeats it."""

    name: bytes
    member: _Member
    packing: Packing
    zip64: bool

    def local(self) -> bytes:
        fields = self._values()
        return _LOCAL_HEADER.pack(b"PK\x03\x04", *fields) + self.name + self._extra()

    def in_directory(self, offset: int) -> bytes:
        rest = (0, 0, 0, 0, offset)
        return (
            _DIRECTORY_HEADER.pack(b"PK\x01\x02", _VERSION, *self._values(), *rest)
            + self.name
            + self._extra()
        )

    def _values(self) -> tuple[int, ...]:
        method = 0 if self.packing is Packing.STORED else 8
        sizes = _total(self.member.packed), self.member.size
        if self.zip64:
            sizes = _MAX_32, _MAX_32
        return (
            _VERSION, 0, method, 0, _FIRST_DOS_DATE, self.member.crc, *sizes, len(self.name),
            len(self._extra()),
        )  # fmt: skip

    def _extra(self) -> bytes:
        if not self.zip64:
            return b""
        return _ZIP64_SIZES.pack(1, 16, self.member.size, _total(self.member.packed))


def _total(parts: Iterable[Stretch]) -> int:
    return sum(part.size for part in parts)
