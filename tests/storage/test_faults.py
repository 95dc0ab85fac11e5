"""A file system that fails: full, broken, read-only, gone."""

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import ErrorCode
from tests.ccfs.samples import PATH, make_zip, stream
from tests.storage.sweeping import swept
from tests.storage.syscalls import descriptor_of, fail
from worker.core.ports import Chunk
from worker.errors import JobError
from worker.storage import SharedStorage, Threads

MIB = 1024**2
FILE = make_zip(os.urandom(3 * MIB))

CODES = {
    errno.ENOSPC: ErrorCode.STORAGE_FULL,
    errno.EDQUOT: ErrorCode.STORAGE_FULL,
    errno.EIO: ErrorCode.STORAGE_ERROR,
    errno.EROFS: ErrorCode.STORAGE_ERROR,
    errno.EACCES: ErrorCode.STORAGE_ERROR,
    errno.ESTALE: ErrorCode.STORAGE_ERROR,
    errno.EMFILE: ErrorCode.STORAGE_ERROR,
}


@pytest.fixture
def thread() -> Iterator[Threads]:
    """One thread, in which system calls can be made to fail."""
    with Threads(1) as executor:
        yield executor


@pytest.fixture
def failing(root: Path, thread: Threads) -> SharedStorage:
    """A storage that works in that thread."""
    return SharedStorage(root, thread, max_file_bytes=64 * MIB, min_free_bytes=0)


async def in_two_parts(between: Callable[[], None]) -> AsyncIterator[Chunk]:
    """The file, and something that happens when half of it was given to the storage."""
    yield FILE[: 2 * MIB]
    between()
    yield FILE[2 * MIB :]


async def and_then(after: Callable[[], None]) -> AsyncIterator[Chunk]:
    """The file, and something that happens when all of it was given to the storage."""
    yield FILE
    after()


def names_in(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if not path.is_dir()]


async def failure(storage: SharedStorage, chunks: AsyncIterator[Chunk]) -> JobError:
    with pytest.raises(JobError) as caught:
        await storage.store(PATH, chunks, announced_bytes=len(FILE))
    return caught.value


@pytest.mark.parametrize(("error", "code"), CODES.items(), ids=map(errno.errorcode.get, CODES))
@pytest.mark.parametrize("call", ["write", "fsync", "close"])
async def test_errors_are_seen_however_late_the_file_system_tells(
    failing: SharedStorage, root: Path, thread: Threads, call: str, error: int, code: ErrorCode
) -> None:
    """NFS and quotas may tell only at fsync or close that what was written is not there."""
    broken: list[int] = []

    def break_it() -> None:
        broken.append(descriptor_of(".part"))
        fail(thread, call, error, on=broken[0])

    try:
        caught = await failure(failing, in_two_parts(break_it))
    finally:
        if call == "close":
            # The kernel would have closed it all the same.
            os.close(broken[0])

    assert caught.code is code
    assert os.strerror(error) in caught.message
    assert str(PATH) in caught.message
    assert names_in(root) == []


@pytest.mark.parametrize(("error", "code"), CODES.items(), ids=map(errno.errorcode.get, CODES))
@pytest.mark.parametrize("call", ["openat", "mkdirat"])
async def test_errors_at_the_beginning_are_seen(
    failing: SharedStorage, root: Path, thread: Threads, call: str, error: int, code: ErrorCode
) -> None:
    fail(thread, call, error)

    assert (await failure(failing, stream(FILE))).code is code
    assert names_in(root) == []


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM], ids=["an old kernel", "a sandbox"])
async def test_a_kernel_without_openat2_is_enough(
    failing: SharedStorage, root: Path, thread: Threads, error: int
) -> None:
    fail(thread, "openat2", error)

    assert await failing.find(PATH) is None
    stored = await failing.store(PATH, stream(FILE), announced_bytes=None)

    assert (root / PATH).read_bytes() == FILE
    assert await failing.find(PATH) == replace(stored, reused=True)


async def test_what_is_missing_takes_one_call_to_see(failing: SharedStorage, thread: Threads) -> None:
    """Almost every job asks for a file that is not there, and each call costs."""
    fail(thread, "openat", errno.EIO)

    assert await failing.find(PATH) is None


async def test_a_file_whose_rename_fails_is_not_there(
    failing: SharedStorage, root: Path, thread: Threads
) -> None:
    caught = await failure(failing, and_then(lambda: fail(thread, "renameat", errno.EIO)))

    assert caught.code is ErrorCode.STORAGE_ERROR
    assert names_in(root) == []


async def test_a_name_that_may_not_last_is_no_success(
    failing: SharedStorage, storage: SharedStorage, thread: Threads
) -> None:
    """When the directory cannot be flushed the job is tried again, finds its file, and flushes it then."""

    def break_directories() -> None:
        fail(thread, "fsync", errno.EIO, but_on=descriptor_of(".part"))

    caught = await failure(failing, and_then(break_directories))

    assert caught.code is ErrorCode.STORAGE_ERROR
    found = await storage.find(PATH)
    assert found is not None
    assert found.reused


@pytest.mark.parametrize("call", ["openat", "fsync"])
async def test_a_file_that_cannot_be_vouched_for_is_not_found(
    failing: SharedStorage, thread: Threads, call: str
) -> None:
    """Nor is it missing: to download it again would change nothing."""
    await failing.store(PATH, stream(FILE), announced_bytes=None)
    fail(thread, call, errno.EIO)

    with pytest.raises(JobError) as caught:
        await failing.find(PATH)

    assert caught.value.code is ErrorCode.STORAGE_ERROR


async def test_the_first_failure_is_the_one_that_counts(failing: SharedStorage, thread: Threads) -> None:
    """A cut connection stays one, even if the temporary file cannot be closed or removed afterwards."""
    held: list[int] = []

    def break_it() -> None:
        held.append(descriptor_of(".part"))
        fail(thread, "close", errno.EDQUOT, on=held[0])
        fail(thread, "openat", errno.EIO)
        raise JobError(ErrorCode.TRUNCATED, "cut")

    caught = await failure(failing, in_two_parts(break_it))
    os.close(held[0])

    assert caught.code is ErrorCode.TRUNCATED


async def test_a_cancelled_transfer_stays_cancelled_if_the_disk_fails(
    failing: SharedStorage, thread: Threads
) -> None:
    arrived = asyncio.Event()

    async def stall() -> AsyncIterator[Chunk]:
        yield FILE
        fail(thread, "openat", errno.EIO)
        arrived.set()
        await asyncio.Event().wait()

    storing = asyncio.create_task(failing.store(PATH, stall(), announced_bytes=None))
    await arrived.wait()
    storing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await storing


async def test_a_missing_root_is_an_error_everywhere(storage: SharedStorage, root: Path) -> None:
    """Not an empty storage: nothing is asked of CC-FS that could not be kept."""
    root.rmdir()

    for attempt in (
        storage.find(PATH),
        storage.look(),
        swept(storage, 100),
        storage.store(PATH, stream(FILE), announced_bytes=None),
    ):
        with pytest.raises(JobError) as caught:
            await attempt
        assert caught.value.code is ErrorCode.STORAGE_ERROR
        assert str(root) in caught.value.message
    assert not root.exists()


async def test_a_root_that_goes_and_comes_again_is_used_again(storage: SharedStorage, root: Path) -> None:
    away = root.with_name("away")

    def go() -> None:
        root.rename(away)

    caught = await failure(storage, in_two_parts(go))
    away.rename(root)
    stored = await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert caught.code is ErrorCode.STORAGE_ERROR
    assert (root / stored.path).read_bytes() == FILE


async def test_a_directory_in_the_files_place_is_an_error(storage: SharedStorage, root: Path) -> None:
    (root / PATH).mkdir(parents=True)

    with pytest.raises(JobError) as found:
        await storage.find(PATH)
    stored = await failure(storage, stream(FILE))

    assert found.value.code is stored.code is ErrorCode.STORAGE_ERROR
    assert names_in(root) == []


async def test_a_pipe_in_the_files_place_holds_nobody_up(storage: SharedStorage, root: Path) -> None:
    (root / PATH.parent).mkdir(parents=True)
    os.mkfifo(root / PATH)

    assert await storage.find(PATH) is None
    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert (root / PATH).read_bytes() == FILE


SMALL = ("-t", "tmpfs", "-o", "size=8m", "tmpfs")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of the test's own."""
    path = tmp_path / "volume"
    path.mkdir()
    try:
        mount(*SMALL, path)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no file system can be mounted here: {exc}")
    yield path
    while path.is_mount():
        unmount(path)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unmount(volume: Path) -> None:
    subprocess.run(["umount", "--lazy", volume], check=True)


async def test_a_disk_that_fills_up_on_the_way_is_full(volume: Path, executor: Threads) -> None:
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)

    caught = await failure(storage, stream(*[os.urandom(MIB) for _ in range(10)]))

    assert caught.code is ErrorCode.STORAGE_FULL
    assert names_in(volume) == []


async def test_a_disk_without_room_for_the_announced_size_is_full(volume: Path, executor: Threads) -> None:
    """It is seen before the first byte is written."""
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=6 * MIB)

    caught = await failure(storage, stream(FILE))

    assert caught.code is ErrorCode.STORAGE_FULL
    assert list(volume.iterdir()) == []


async def test_a_full_disk_takes_files_again_once_there_is_room(volume: Path, executor: Threads) -> None:
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)
    (volume / "ballast").write_bytes(b"\0" * (7 * MIB))

    caught = await failure(storage, stream(FILE))
    (volume / "ballast").unlink()
    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert caught.code is ErrorCode.STORAGE_FULL
    assert (volume / PATH).read_bytes() == FILE


async def test_a_read_only_disk_is_an_error(volume: Path, executor: Threads) -> None:
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)
    mount("-o", "remount,ro", volume)

    caught = await failure(storage, stream(FILE))

    assert caught.code is ErrorCode.STORAGE_ERROR
    assert "read-only" in caught.message


async def test_nothing_is_written_below_a_mount_without_its_volume(volume: Path, executor: Threads) -> None:
    """Files there would be out of sight as soon as the volume is back."""
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)
    unmount(volume)

    caught = await failure(storage, stream(FILE))
    with pytest.raises(JobError):
        await storage.look()
    with pytest.raises(JobError):
        await storage.find(PATH)

    assert caught.code is ErrorCode.STORAGE_ERROR
    assert "not mounted" in caught.message
    assert list(volume.iterdir()) == []


async def test_a_volume_that_goes_in_mid_transfer_makes_no_file(volume: Path, executor: Threads) -> None:
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)

    caught = await failure(storage, in_two_parts(lambda: unmount(volume)))

    assert caught.code is ErrorCode.STORAGE_ERROR
    assert list(volume.iterdir()) == []


async def test_a_volume_that_comes_again_is_used_again(volume: Path, executor: Threads) -> None:
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)
    unmount(volume)
    await failure(storage, stream(FILE))
    mount(*SMALL, volume)

    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert (volume / PATH).read_bytes() == FILE


async def test_a_volume_that_comes_late_is_missed_when_it_goes(volume: Path, executor: Threads) -> None:
    """It was not there at start; from its first use on nothing is written without it."""
    unmount(volume)
    storage = SharedStorage(volume, executor, max_file_bytes=64 * MIB, min_free_bytes=0)
    mount(*SMALL, volume)
    await storage.store(PATH, stream(FILE), announced_bytes=None)
    unmount(volume)

    caught = await failure(storage, stream(FILE))

    assert "not mounted" in caught.message
    assert list(volume.iterdir()) == []
