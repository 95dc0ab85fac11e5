"""Only a sound zip counts as a file that arrived."""

import errno
import io
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.stop import Stop, StoppedError
from worker.storage.zip_file import CorruptArchiveError, check_archive

CONTENT = b"callid,begin,end\r\n" + random.Random(1).randbytes(5000)
END = struct.Struct("<4s4H2LH")
"""The end record (APPNOTE.TXT 6.3.10, section 4.3.16)."""
DIRECTORY_SIZE, DIRECTORY_OFFSET = 5, 6
MIB = 1024 * 1024


def zipped(method: int = zipfile.ZIP_DEFLATED, *, content: bytes = CONTENT, comment: bytes = b"") -> bytes:
    """A bill as CC-FS makes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("20260131081500123001_call.csv", content)
        archive.writestr("20260131081500123001_record.csv", content[::-1])
        archive.comment = comment
    return buffer.getvalue()


def with_end(data: bytes, **changes: int) -> bytes:
    """A zip whose end record says something else."""
    fields = list(END.unpack(data[-END.size :]))
    for name, value in changes.items():
        fields[{"size": DIRECTORY_SIZE, "offset": DIRECTORY_OFFSET}[name]] = value
    return data[: -END.size] + END.pack(*fields)


def streamed() -> bytes:
    """A zip by a writer that could not seek: sizes and CRCs stand behind the entries."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", CONTENT)
    return pipe.getvalue()


def zip64(*, directory_bytes: int | None = None) -> bytes:
    """A zip whose end record leaves all numbers to a zip64 record, as some writers do for any large file."""
    data = zipped()
    *_, entries, size, offset, _ = END.unpack(data[-END.size :])
    claimed = size if directory_bytes is None else directory_bytes
    body = data[: -END.size]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, claimed, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body), 1)
    end = END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body + record + locator + end


def with_headers(at_local: int, at_central: int, value: int) -> bytes:
    """A zip whose entries have this 16-bit number in both of their headers."""
    data = bytearray(zipped())
    for signature, at in ((b"PK\x03\x04", at_local), (b"PK\x01\x02", at_central)):
        header = data.find(signature)
        while header >= 0:
            data[header + at : header + at + 2] = value.to_bytes(2, "little")
            header = data.find(signature, header + 1)
    return bytes(data)


def crc_error(method: int) -> bytes:
    """A zip in which one bit of the content is another."""
    data = bytearray(zipped(method))
    data[200] ^= 1
    return bytes(data)


SOUND = {
    "deflated": zipped(),
    "stored": zipped(zipfile.ZIP_STORED),
    "with empty entries": zipped(content=b""),
    "with a comment": zipped(comment=b"c" * 60_000),
    "streamed": streamed(),
    "zip64": zip64(),
    "without entries": END.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0),
    # As self-extracting ones have (APPNOTE.TXT 6.3.10, section 4.1.9).
    "with bytes before it": b"#!/bin/sh\n" + zipped(),
}
CORRUPT: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "not a zip file"),
    "only the magic number": (b"PK\x03\x04", "not a zip file"),
    "HTML": (b"<html><body>502 Bad Gateway</body></html>" * 100, "not a zip file"),
    "zeros": (b"\0" * 100_000, "not a zip file"),
    "cut off in the end record": (zipped()[:-1], "not a zip file"),
    "cut off before the end record": (zipped()[: -END.size], "not a zip file"),
    "cut off in the middle": (zipped()[:3000], "not a zip file"),
    "a hole in the middle": (zipped()[:1000] + zipped()[1500:], "not whole"),
    "a wrong bit in a deflated entry": (crc_error(zipfile.ZIP_DEFLATED), "not sound"),
    "a wrong bit in a stored entry": (crc_error(zipfile.ZIP_STORED), "Bad CRC-32"),
    "encrypted": (with_headers(6, 8, 1), "call.csv is encrypted"),
    "an unknown compression method": (with_headers(8, 10, 77), "method 77"),
    "bzip2": (zipped(zipfile.ZIP_BZIP2), "method 12"),
    "LZMA": (zipped(zipfile.ZIP_LZMA), "method 14"),
    "a directory of 4 GiB": (with_end(zipped(), size=0xFFFFFFFE), "not sound"),
    "a zip64 directory of 2 GiB": (zip64(directory_bytes=2**31), "not sound"),
    "a zip64 directory of all that there can be": (zip64(directory_bytes=2**64 - 1), "not sound"),
    "a directory behind the end": (with_end(zipped(), offset=0xFFFFFFF0), "outside of itself"),
    "fewer bytes of directory than entries": (with_end(zipped(), size=100), "not sound"),
    "padded": (zipped() + b"\0" * 512, "something follows its end record"),
    "a byte behind its comment": (zipped(comment=b"c" * 100) + b"c", "something follows its end record"),
    "a page behind it": (zipped() + b"<html>" * 9000, "something follows its end record"),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def written(data: bytes) -> Path:
        path = tmp_path / "a.zip"
        path.write_bytes(data)
        return path

    return written


def check(path: Path, stop: Stop | None = None) -> None:
    with path.open("rb") as file:
        check_archive(file, stop or Stop())


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_zip_passes(name: str, write: Callable[[bytes], Path]) -> None:
    check(write(SOUND[name]))


@pytest.mark.parametrize("name", CORRUPT)
def test_anything_else_does_not_and_the_error_says_why(name: str, write: Callable[[bytes], Path]) -> None:
    data, says = CORRUPT[name]

    with pytest.raises(CorruptArchiveError, match=says):
        check(write(data))


def test_a_file_that_cannot_be_read_is_no_matter_of_the_archive() -> None:
    """The storage is at fault then, not CC-FS."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() < 100:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error"):
        check_archive(Broken(zipped()), Stop())


@given(
    data=st.sampled_from([zipped(), zipped(zipfile.ZIP_STORED), streamed(), zip64()]),
    cut=st.tuples(st.integers(0, 12_000), st.integers(0, 100)),
    put=st.dictionaries(st.integers(0, 500), st.integers(0, 255), max_size=8),
    from_end=st.booleans(),
)
def test_a_damaged_zip_either_passes_or_is_corrupt(
    data: bytes, cut: tuple[int, int], put: dict[int, int], from_end: bool, tmp_path_factory: Any
) -> None:
    """Never anything else, which would count as a defect or as the storage's fault."""
    damaged = bytearray(data)
    for at, value in put.items():
        damaged[-1 - at if from_end else at] = value
    at, length = cut
    del damaged[at : at + length]
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(damaged)

    with suppress(CorruptArchiveError):
        check(path)


@given(st.integers(0, len(CONTENT) * 8 - 1))
def test_no_bit_of_the_content_can_be_wrong(tmp_path_factory: Any, bit: int) -> None:
    data = bytearray(zipped(zipfile.ZIP_STORED))
    data[data.index(CONTENT) + bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.getbasetemp() / "bit.zip"
    path.write_bytes(data)

    with pytest.raises(CorruptArchiveError, match="CRC"):
        check(path)


class Patience(Stop):
    """Is set when it is asked for the third time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > 2


def test_the_check_ends_soon_after_it_was_told_to(write: Callable[[bytes], Path]) -> None:
    stop = Patience()

    with pytest.raises(StoppedError):
        check(write(zipped(content=bytes(16 * MIB))), stop)

    assert stop.asked == 3


@contextmanager
def bounded_memory(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def test_a_bomb_is_read_in_bounded_memory(write: Callable[[bytes], Path]) -> None:
    path = write(zipped(content=bytes(30 * MIB)))

    with bounded_memory(8 * MIB):
        check(path)


def test_a_bomb_is_refused_before_it_is_unpacked(write: Callable[[bytes], Path]) -> None:
    stop = Patience()

    with pytest.raises(CorruptArchiveError, match="would unpack to 167772160; at most"):
        check(write(zipped(content=bytes(80 * MIB))), stop)

    assert not stop.asked


def test_a_bill_that_packs_twenty_to_one_is_no_bomb(write: Callable[[bytes], Path]) -> None:
    piece = random.Random(2).randbytes(50_000) + bytes(1_000_000)
    data = zipped(content=piece * 40)
    assert 19 * len(data) < 80 * len(piece) > 64 * MIB, "it is no such bill"

    check(write(data))


def test_a_directory_as_large_as_the_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "sparse.zip"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
        file.seek(100 * MIB)
        file.write(END.pack(b"PK\x05\x06", 0, 0, 1, 1, 100 * MIB, 0, 0))

    with (
        bounded_memory(8 * MIB),
        pytest.raises(CorruptArchiveError, match="directory claims 104857600 bytes"),
    ):
        check(path)


def test_ten_thousand_entries_are_checked(write: Callable[[bytes], Path]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(10_000):
            archive.writestr(f"20260131081500123{number:05}_call.csv", b"")

    check(write(buffer.getvalue()))


def test_entries_that_share_their_bytes_are_refused(write: Callable[[bytes], Path]) -> None:
    """As in David Fifield's bomb: a small file that would take for ever to read."""
    data = zipped(content=bytes(MIB))
    begin, end = data.index(b"PK\x01\x02"), len(data) - END.size
    count = 5000
    directory = data[begin:end] * count
    last = END.pack(b"PK\x05\x06", 0, 0, 2 * count, 2 * count, len(directory), begin, 0)

    with pytest.raises(CorruptArchiveError, match="overlap"):
        check(write(data[:begin] + directory + last))
