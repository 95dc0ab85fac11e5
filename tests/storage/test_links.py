"""Links planted in the tree never lead out of the root: nothing there is made, read, replaced or removed."""

import errno
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import DownloadJob, ErrorCode
from tests.ccfs.samples import JOB, PATH, make_zip, stream
from tests.storage.sweeping import swept
from tests.storage.syscalls import fail
from worker.core.paths import final_path
from worker.core.ports import Chunk
from worker.errors import JobError
from worker.storage import SharedStorage, Threads

MIB = 1024**2

FILE = make_zip(b"the call records")
LARGE = make_zip(random.Random(1).randbytes(MIB))
"""More than a block: its temporary file is there before all of it has come."""
SECRET = make_zip(b"what lies outside")
UNIQUE = "0123456789abcdef" * 2


@pytest.fixture(params=["openat2", "no openat2"])
async def storage(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[SharedStorage]:
    """A storage where the kernel proves that there is no link, and one where it is too old for that."""
    with Threads(1) as thread:
        if request.param == "no openat2":
            fail(thread, "openat2", errno.ENOSYS)
        yield SharedStorage(root, thread, max_file_bytes=64 * 1024**2, min_free_bytes=0)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the root that is the same after the test as before, times included."""
    path = tmp_path / "outside"
    (path / "20260131").mkdir(parents=True)
    for name in ("secret.zip", PATH.name, f"20260131/{PATH.name}", f"20260131/.{PATH.name}.{UNIQUE}.part"):
        (path / name).write_bytes(SECRET)
        os.utime(path / name, (1, 1))
    before = contents(path)
    yield path
    assert contents(path) == before


def contents(path: Path) -> dict[str, tuple[object, ...]]:
    return {
        str(entry.relative_to(path)): (entry.is_dir() or entry.read_bytes(), entry.stat().st_mtime_ns)
        for entry in [path, *path.rglob("*")]
    }


async def refused(storage: SharedStorage) -> None:
    for attempt in (storage.find(PATH), storage.store(PATH, stream(FILE), announced_bytes=None)):
        with pytest.raises(JobError) as caught:
            await attempt
        assert caught.value.code is ErrorCode.STORAGE_ERROR
        assert "link" in caught.value.message


async def test_an_account_that_is_a_link_is_refused(
    storage: SharedStorage, root: Path, outside: Path
) -> None:
    """Not even an empty directory for the day is made behind it."""
    (root / "app1").symlink_to(outside)

    await refused(storage)


async def test_an_account_that_is_a_link_to_nowhere_is_refused(
    storage: SharedStorage, root: Path, outside: Path
) -> None:
    (root / "app1").symlink_to(outside / "new")

    await refused(storage)


async def test_a_day_that_is_a_link_is_refused(storage: SharedStorage, root: Path, outside: Path) -> None:
    (root / "app1").mkdir()
    (root / "app1/20260131").symlink_to(outside / "20260131")

    await refused(storage)


async def test_a_link_within_the_root_is_refused_too(storage: SharedStorage, root: Path) -> None:
    """One account's files would appear under another's name."""
    (root / "app2").mkdir()
    (root / "app1").symlink_to("app2")

    await refused(storage)

    assert list((root / "app2").iterdir()) == []


@pytest.mark.parametrize("target", ["../../../outside/secret.zip", "../../../outside/new.zip"])
@pytest.mark.usefixtures("outside")
async def test_a_file_that_is_a_link_is_not_found_and_gets_replaced(
    storage: SharedStorage, root: Path, target: str
) -> None:
    """The link itself, not what it leads to: that may be a sound zip."""
    (root / PATH.parent).mkdir(parents=True)
    (root / PATH).symlink_to(target)

    assert await storage.find(PATH) is None
    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert not (root / PATH).is_symlink()
    assert (root / PATH).read_bytes() == FILE


async def test_a_temporary_file_swapped_for_a_link_is_not_published(
    storage: SharedStorage, root: Path, outside: Path
) -> None:
    async def swapping() -> AsyncIterator[Chunk]:
        yield LARGE
        (part,) = (root / PATH.parent).iterdir()
        part.unlink()
        part.symlink_to(outside / "secret.zip")

    with pytest.raises(JobError) as caught:
        await storage.store(PATH, swapping(), announced_bytes=None)

    assert caught.value.code is ErrorCode.STORAGE_ERROR
    assert list((root / PATH.parent).iterdir()) == []


async def test_a_directory_swapped_for_a_link_meanwhile_is_refused(
    storage: SharedStorage, root: Path, outside: Path
) -> None:
    async def swapping() -> AsyncIterator[Chunk]:
        yield LARGE
        (root / "app1").rename(root / "old")
        (root / "app1").symlink_to(outside)

    with pytest.raises(JobError) as caught:
        await storage.store(PATH, swapping(), announced_bytes=None)

    assert caught.value.code is ErrorCode.STORAGE_ERROR


async def test_the_sweep_follows_no_link(storage: SharedStorage, root: Path, outside: Path) -> None:
    (root / "app1").symlink_to(outside)
    (root / "app2").mkdir()
    (root / "app2/20260131").symlink_to(outside / "20260131")
    (root / "app3/20260131").mkdir(parents=True)
    (root / f"app3/20260131/.{PATH.name}.{UNIQUE}.part").symlink_to(outside / "secret.zip")

    assert await swept(storage, time.time() - 2) == 0


texts = st.text(max_size=70) | st.sampled_from(["..", ".", "/", "a/b", "../x", "app1", "a\0b", "-", "CON"])
names = st.from_regex(r"\d{8}_[A-Za-z0-9-]{1,40}\.zip", fullmatch=True) | texts


@given(app_id=texts | st.from_regex(r"[A-Za-z0-9._-]{1,70}", fullmatch=True), name=names)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_what_the_model_accepts_lies_three_levels_below_the_root(app_id: str, name: str) -> None:
    try:
        job = DownloadJob(app_id=app_id, bill_file_name=name)
    except ValueError:
        return

    path = final_path(job)

    assert path.parts == (app_id, name[:8], name)
    assert not path.is_absolute()
    assert os.path.normpath(Path("/root", path)) == f"/root/{app_id}/{name[:8]}/{name}"
    assert not app_id.startswith(".")


def test_the_path_is_that_of_the_contract() -> None:
    assert str(final_path(JOB)) == "app1/20260131/20260131_9239cb50.zip"
