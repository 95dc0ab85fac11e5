"""Checks a zip while its bytes pass by, so that the file need not be read again.

It knows what CC-FS writes: entries one after another, stored or deflated, with or without data descriptors,
then a plain central directory. Whatever else an archive may hold makes it unproven, not unsound;
`worker.storage.zip_file` then judges the file as a whole. What is proven here passes there.

Layouts and section numbers are those of APPNOTE.TXT 6.3.10.
"""

import struct
import zlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

from isal import isal_zlib

from worker.core.outcome import Listing, listing
from worker.storage.zip_file import most_unpacked

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_LOCAL_HEADER = struct.Struct("<HHHLLLLHH")  # 4.3.7, after its signature
_DESCRIPTOR = struct.Struct("<4sLLL")  # 4.3.9, with the signature that is usual
_CENTRAL_HEADER = struct.Struct("<HHHHLLLLHHHHHLL")  # 4.3.12, after its signature
_END_RECORD = struct.Struct("<HHHHLLH")  # 4.3.16, after its signature
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_LOCATOR_BYTES = 20
"""Where a ZIP64 locator would stand, before the end record (4.3.15)."""

_STORED, _DEFLATED = 0, 8
_HAS_DESCRIPTOR = 1 << 3
_HARMLESS_FLAGS = _HAS_DESCRIPTOR | 1 << 1 | 1 << 2 | 1 << 11
"""4.4.4: how hard it was compressed, and names in UTF-8; no encryption, no patches."""
_NEWEST_VERSION = 63
_MAX_ENTRIES = 10_000
_MAX_NAME = 255
_MOST_UNPACKED = 1024 * 1024

_crc32 = isal_zlib.crc32
"""The same function as zlib's, by instructions of the processor that are made for it."""

_Steps = Generator[None, None, None]


class _UnprovenError(Exception):
    """The archive has something that is not known here, or something wrong."""


class _Entry(NamedTuple):
    """What an entry turned out to be, in the order of the central directory's fields."""

    method: int
    crc: int
    packed: int
    unpacked: int
    offset: int
    name: bytes


class _Bytes:
    """An archive's bytes as they come, for generators that yield where they wait for the next block.

    Attributes:
        rest: What is left of the block that came last.
        position: How many bytes were taken.
    """

    def __init__(self) -> None:
        self.rest = memoryview(b"")
        self.position = 0

    def exactly(self, size: int) -> Generator[None, None, bytes]:
        """Take `size` bytes, however many blocks they lie in."""
        taken = b""
        while len(taken) < size:
            taken += yield from self.some(size - len(taken))
        return taken

    def some(self, most: int) -> Generator[None, None, memoryview]:
        """Take what there is of the block, at least a byte; waits for the next one."""
        while not self.rest:
            yield
        part, self.rest = self.rest[:most], self.rest[most:]
        self.position += len(part)
        return part

    def put_back(self, unused: bytes) -> None:
        """Put the last ones back in front."""
        self.rest = memoryview(unused + bytes(self.rest))
        self.position -= len(unused)


class ZipWalk:
    """One archive on its way. Feed it every block in order, then ask whether it proved sound."""

    def __init__(self) -> None:
        self._bytes = _Bytes()
        self._unpacked = 0
        self._entries: list[_Entry] = []
        self._is_whole = False
        self._steps: _Steps | None = self._walk()
        next(self._steps)

    def feed(self, block: bytes | memoryview) -> None:
        """Take in the next bytes; keeps none of the block."""
        if self._steps is None:
            return
        self._bytes.rest = memoryview(block)
        try:
            self._steps.send(None)
        except (_UnprovenError, zlib.error):
            self._steps = None

    def proves_sound(self) -> bool:
        """Whether all bytes so far are one sound archive."""
        return self._is_whole and self._steps is not None

    def listing(self) -> Listing:
        """What the archive holds, once it is proven to be sound."""
        return listing((entry.name.decode("ascii"), entry.unpacked) for entry in self._entries)

    def _walk(self) -> _Steps:
        while (signature := (yield from self._bytes.exactly(4))) == _LOCAL:
            _insist(len(self._entries) < _MAX_ENTRIES)
            self._entries.append((yield from self._entry(self._bytes.position - 4)))
        directory = self._bytes.position - 4
        last = b""
        for entry in self._entries:
            _insist(signature == _CENTRAL)
            last = yield from self._directory_entry(entry)
            signature = yield from self._bytes.exactly(4)
        # Readers look for a ZIP64 locator before the end record, and would believe one in the last name.
        _insist(signature == _END and last[-_LOCATOR_BYTES:][:4] != _ZIP64_LOCATOR)
        size = self._bytes.position - 4 - directory
        record = yield from self._bytes.exactly(_END_RECORD.size)
        count = len(self._entries)
        _insist(_END_RECORD.unpack(record) == (0, 0, count, count, size, directory, 0))
        self._is_whole = True
        # Anything behind the end record.
        yield from self._bytes.some(1)
        raise _UnprovenError

    def _entry(self, offset: int) -> Generator[None, None, _Entry]:
        header = yield from self._bytes.exactly(_LOCAL_HEADER.size)
        _, flags, method, _, crc, packed, unpacked, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        name = yield from self._name(name_length)
        yield from self._bytes.exactly(extra_length)
        _insist(not flags & ~_HARMLESS_FLAGS and method in {_STORED, _DEFLATED})
        if method == _DEFLATED:
            found = yield from self._inflate(None if flags & _HAS_DESCRIPTOR else packed)
        else:
            # Only its size says where a stored entry ends, and a descriptor comes behind it.
            _insist(not flags & _HAS_DESCRIPTOR)
            passed, end = 0, self._bytes.position + packed
            while left := end - self._bytes.position:
                passed = _crc32((yield from self._bytes.some(left)), passed)
            found = passed, packed, packed
        if flags & _HAS_DESCRIPTOR:
            descriptor = yield from self._bytes.exactly(_DESCRIPTOR.size)
            _insist(_DESCRIPTOR.unpack(descriptor) == (_DESCRIPTOR_SIGNATURE, *found))
        else:
            _insist(found == (crc, packed, unpacked))
        return _Entry(method, *found, offset, name)

    def _inflate(self, size: int | None) -> Generator[None, None, tuple[int, int, int]]:
        """Go through deflated bytes, `size` of them or up to their own end; returns CRC and sizes."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        crc, unpacked, start = 0, 0, self._bytes.position
        while not inflater.eof:
            left = _MOST_UNPACKED if size is None else size - (self._bytes.position - start)
            _insist(left > 0)
            part = yield from self._bytes.some(left)
            for block in _unpacked(inflater, part):
                crc, unpacked = _crc32(block, crc), unpacked + len(block)
                # Bounded by what came so far, within the block: a mebibyte of a bomb is a gigabyte unpacked.
                # The check of the file knows its whole size.
                self._unpacked += len(block)
                _insist(self._unpacked <= most_unpacked(self._bytes.position))
            if inflater.unused_data:
                self._bytes.put_back(inflater.unused_data)
        packed = self._bytes.position - start
        _insist(size is None or packed == size)
        return crc, packed, unpacked

    def _directory_entry(self, entry: _Entry) -> Generator[None, None, bytes]:
        """Compare a header of the directory with the entry that it names; returns its bytes.

        Readers of streams believe the entry, others the directory: to differ shows them different files.
        """
        header = yield from self._bytes.exactly(_CENTRAL_HEADER.size)
        fields = _CENTRAL_HEADER.unpack(header)
        _, version, flags, method, _, crc, packed, unpacked, name_length, extra, comment, disk, *_ = fields
        name = yield from self._name(name_length)
        _insist(version & 0xFF <= _NEWEST_VERSION and not flags & ~_HARMLESS_FLAGS)
        _insist(not (extra or comment or disk))
        _insist(_Entry(method, crc, packed, unpacked, fields[-1], name) == entry)
        return header + name

    def _name(self, length: int) -> Generator[None, None, bytes]:
        _insist(length <= _MAX_NAME)
        name = yield from self._bytes.exactly(length)
        # Beyond ASCII, readers take the same bytes for different names.
        _insist(name.isascii() and name.decode("ascii").isprintable())
        return name


def _unpacked(inflater: "zlib._Decompress", part: memoryview) -> Iterator[bytes]:
    """What comes out of packed bytes, in bounded blocks."""
    tail: bytes | memoryview = part
    block = b"-"
    # A full block may leave more to come although all input is taken.
    while not inflater.eof and (tail or len(block) == _MOST_UNPACKED):
        block = inflater.decompress(tail, _MOST_UNPACKED)
        tail = inflater.unconsumed_tail
        yield block


def _insist(condition: bool) -> None:
    if not condition:
        raise _UnprovenError
