"""The check of a zip on its way: what it proves, and that it never proves what is unsound."""

import io
import random
import zipfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.stop import Stop
from worker.storage.zip_file import CorruptArchiveError, check_archive
from worker.storage.zip_stream import ZipWalk

CSV = b"".join(b"%d,agent%d,2026-01-31\n" % (number, number % 7) for number in range(5000))


class Unseekable(io.RawIOBase):
    """Makes zipfile write data descriptors, as java.util.zip does."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += bytes(data)
        return len(data)


def archive(*contents: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as writing:
        for number, content in enumerate(contents):
            writing.writestr(f"20260131081500123456_{number}.csv", content)
    return target.getvalue()


def with_descriptors(*contents: bytes) -> bytes:
    target = Unseekable()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as writing:
        for number, content in enumerate(contents):
            writing.writestr(f"{number}.csv", content)
    return target.written


def walked(body: bytes, *, step: int = 1 << 20) -> ZipWalk:
    walk = ZipWalk()
    for start in range(0, len(body), step):
        walk.feed(body[start : start + step])
    return walk


def proves(body: bytes, *, step: int = 1 << 20) -> bool:
    return walked(body, step=step).proves_sound()


def is_sound(body: bytes) -> bool:
    try:
        check_archive(io.BytesIO(body), Stop())
    except CorruptArchiveError:
        return False
    return True


@pytest.mark.parametrize("step", [1, 7, 64, 4096, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        archive(),
        archive(CSV, b"", CSV[:100]),
        archive(CSV, b"", b"x", method=zipfile.ZIP_STORED),
        with_descriptors(CSV, CSV[:1], b""),
    ],
    ids=["empty", "deflated", "stored", "descriptors"],
)
def test_ordinary_archives_are_proven_however_they_are_cut(body: bytes, step: int) -> None:
    walk = walked(body, step=step)

    assert walk.proves_sound()
    assert walk.listing() == check_archive(io.BytesIO(body), Stop())


def test_a_listing_has_each_file_with_its_unpacked_size() -> None:
    assert walked(with_descriptors(CSV, b"")).listing() == ((("0.csv", len(CSV)), ("1.csv", 0)), 2)


def test_a_block_that_unpacks_far_is_proven_in_bounded_pieces() -> None:
    assert proves(archive(bytes(50 << 20)))
    assert proves(with_descriptors(bytes(3 << 20)))


@pytest.mark.parametrize("step", [4096, 1 << 20])
def test_a_bomb_is_left_unproven_before_all_of_it_is_unpacked(step: int) -> None:
    """The check of the file knows how large it is, and judges."""
    for bomb in (archive(bytes(80 << 20)), with_descriptors(bytes(80 << 20))):
        assert not proves(bomb, step=step)
        assert not is_sound(bomb)


def test_a_bill_that_packs_twenty_to_one_is_proven() -> None:
    piece = random.Random(2).randbytes(50_000) + bytes(1_000_000)

    assert proves(archive(piece * 80))


def test_whatever_is_missing_or_follows_leaves_it_unproven() -> None:
    body = archive(CSV)
    for cut in range(0, len(body), 97):
        assert not proves(body[:cut])
    assert not proves(body + b"x")


def rare(mutate: Callable[[zipfile.ZipFile, zipfile.ZipInfo], None]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as writing:
        entry = zipfile.ZipInfo("a.csv")
        mutate(writing, entry)
        writing.writestr(entry, CSV)
    return target.getvalue()


def comment(writing: zipfile.ZipFile, _: zipfile.ZipInfo) -> None:
    writing.comment = b"told"


def entry_comment(_: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    entry.comment = b"told"


def packed_otherwise(_: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    entry.compress_type = zipfile.ZIP_LZMA


def unprintable_name(_: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    entry.filename = "ü.csv"


@pytest.mark.parametrize("mutate", [comment, entry_comment, packed_otherwise, unprintable_name])
def test_what_it_does_not_know_is_left_to_the_check_of_the_file(
    mutate: Callable[[zipfile.ZipFile, zipfile.ZipInfo], None],
) -> None:
    assert not proves(rare(mutate))


def test_each_changed_bit_that_the_file_check_sees_is_unproven() -> None:
    """Of each byte of a small archive one bit is turned: nothing is proven that is unsound."""
    for body in (archive(b"12345", b"x"), with_descriptors(b"12345")):
        for changed in changed_bits(body):
            assert not proves(changed) or is_sound(changed)


def changed_bits(body: bytes) -> Iterator[bytes]:
    for place in range(len(body)):
        for bit in (0, 3, 7):
            yield body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]


@given(data=st.data())
def test_no_splice_of_archives_is_proven_unless_it_is_sound(data: st.DataObject) -> None:
    """Pieces of sound archives, cut and joined anywhere."""
    bodies = [archive(b"12345", b"x"), archive(b"12345", method=zipfile.ZIP_STORED), with_descriptors(b"1")]
    pieces = []
    for body in data.draw(st.permutations(bodies)):
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
        pieces.append(body[start:end])
    spliced = b"".join(pieces)
    assert not proves(spliced) or is_sound(spliced)


def test_a_changed_content_is_noticed() -> None:
    """The CRC of stored bytes is computed, not believed."""
    body = bytearray(archive(CSV, method=zipfile.ZIP_STORED))
    body[200] ^= 1
    assert not proves(bytes(body))


def test_a_zip64_locator_hidden_in_the_directory_is_unproven() -> None:
    """A reader that looks for the locator at its place would take another way through the archive."""
    body = bytearray(archive(b"x"))
    end = len(body) - 22
    body[end - 20 : end - 16] = b"PK\x06\x07"
    assert not proves(bytes(body))
