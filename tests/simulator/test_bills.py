"""The made-up bills: sound zips, to measure, and the same every time."""

import hashlib
import io
import re
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.simulator import MIN_BILL_BYTES, Bill, Packing, crc, make_bill
from worker.storage.stop import Stop
from worker.storage.zip_file import check_archive

NAME = "20260102_9239cb50a8384bb0ab503441bf089446.zip"
PACKINGS = pytest.mark.parametrize("packing", list(Packing))


def content(bill: Bill) -> bytes:
    return b"".join(bill.blocks())


def opened(bill: Bill) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content(bill)))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crcs_of_two_parts_give_that_of_the_whole(first: bytes, second: bytes) -> None:
    assert crc.joined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.binary(max_size=50), st.integers(0, 300))
def test_the_crc_of_a_block_gives_that_of_its_repetition(block: bytes, times: int) -> None:
    assert crc.repeated(zlib.crc32(block), len(block), times) == zlib.crc32(block * times)


@PACKINGS
@pytest.mark.parametrize("app_id", ["a", "A" * 64])
@pytest.mark.parametrize("name", ["00010101_a.zip", "99991231_" + "a" * 36 + ".zip"])
@pytest.mark.parametrize("size", [MIN_BILL_BYTES, MIN_BILL_BYTES + 1, 65_536, 300_001, 1_000_000])
def test_a_bill_is_a_sound_zip_of_exactly_that_size(
    packing: Packing, app_id: str, name: str, size: int
) -> None:
    bill = make_bill(app_id, name, size_bytes=size, packing=packing)

    assert len(content(bill)) == bill.size_bytes == size
    assert opened(bill).testzip() is None


@pytest.mark.parametrize(("size", "files"), [(5_000, 1), (100_000, 2)])
def test_a_bill_holds_calls_and_the_index_of_their_recordings(size: int, files: int) -> None:
    """The files have the vendor's names and one row a line, for this account and this day."""
    archive = opened(make_bill("app1", NAME, size_bytes=size))

    def rows(kind: str) -> list[list[str]]:
        pattern = rf"20260102[0-9]{{9}}[0-9]{{3}}_{kind}_([0-9])\.csv"
        found = {
            int(match[1]): match[0] for name in archive.namelist() if (match := re.fullmatch(pattern, name))
        }
        assert list(found) == list(range(1, files + 1))
        texts = (archive.read(name).decode() for name in found.values())
        return [row.split(",") for text in texts for row in text.splitlines()]

    calls, records = rows("call"), rows("record")
    assert len(archive.namelist()) == 2 * files
    assert {(row[0], row[7][:10]) for row in [*calls, *records]} == {("app1", "2026-01-02")}
    assert {len(row) for row in calls} == {22}
    assert {len(row) for row in records} == {18}
    assert {row[4] for row in records} <= {row[4] for row in calls}


def test_a_bill_always_has_the_same_bytes_and_no_other_has() -> None:
    def digest(app_id: str = "app1", name: str = NAME, size: int = 65_536, seed: int = 0) -> str:
        return make_bill(app_id, name, size_bytes=size, seed=seed).sha256()

    others = {
        digest(app_id="app2"),
        digest(name=NAME.replace("9", "8")),
        digest(name=NAME.replace("0102", "0103")),
        digest(size=65_537),
        digest(seed=1),
    }
    assert digest() == digest()
    assert len(others | {digest()}) == 6


def test_the_digest_is_that_of_the_bytes() -> None:
    bill = make_bill("app1", NAME, size_bytes=700_000)

    assert bill.sha256() == hashlib.sha256(content(bill)).hexdigest()


@PACKINGS
def test_an_unsound_bill_differs_in_one_crc(packing: Packing) -> None:
    good = make_bill("app1", NAME, size_bytes=65_536, packing=packing)
    bad = make_bill("app1", NAME, size_bytes=65_536, packing=packing, sound=False)

    assert bad.size_bytes == good.size_bytes
    assert (opened(bad).testzip() or "").endswith("_call_2.csv")


def test_too_small_a_bill_is_refused() -> None:
    with pytest.raises(ValueError, match="4096 bytes or more"):
        make_bill("app1", NAME, size_bytes=MIN_BILL_BYTES - 1)


@PACKINGS
def test_terabytes_are_made_in_no_time_and_given_in_small_blocks(packing: Packing) -> None:
    bill = make_bill("app1", NAME, size_bytes=1024**4, packing=packing)

    assert bill.size_bytes == 1024**4
    assert {len(block) for block in islice(bill.blocks(), 100)} == {256 * 1024}


@pytest.mark.parametrize(
    ("size", "packing"), [(5 * 1024**3, Packing.STORED), (3 * 1024**3 // 2, Packing.DEFLATED)]
)
def test_four_gigabytes_and_more_make_a_zip64(size: int, packing: Packing, tmp_path: Path) -> None:
    """Only the directory is read here: what differs in such a zip is how that is found and what it tells."""
    bill = make_bill("app1", NAME, size_bytes=size, packing=packing)
    file = tmp_path / "bill.zip"
    with file.open("wb") as sparse:
        sparse.truncate(size)
        sparse.seek(size - bill.parts[-1].size)
        sparse.write(bill.parts[-1].data)

    with zipfile.ZipFile(file) as archive:
        first, *_, call = archive.infolist()
    assert call.header_offset > first.header_offset == 0
    assert size - 10_000 < call.compress_size < size
    assert call.file_size > 4 * 1024**3


def test_deflated_bills_pass_the_workers_own_check(tmp_path: Path) -> None:
    file = tmp_path / "bill.zip"
    file.write_bytes(content(make_bill("app1", NAME, size_bytes=2_000_000)))

    with file.open("rb") as bill:
        check_archive(bill, Stop())
