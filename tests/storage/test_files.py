"""Files on the storage: whole, verified and durable under their final name, or not there at all."""

import asyncio
import hashlib
import io
import os
import stat
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

import pytest

from schemas import ErrorCode
from tests.ccfs.samples import PATH, make_zip, stream
from tests.memory import track_peak
from tests.storage.sweeping import swept
from worker.core.outcome import Listing, StoredFile
from worker.core.ports import Chunk
from worker.errors import JobError
from worker.storage import RootRules, SharedStorage, Threads
from worker.storage.part import Limits, Part
from worker.storage.stop import Stop, StoppedError
from worker.storage.tree import Tree

MIB = 1024**2
FILE = make_zip(os.urandom(3 * MIB), b"a,b\n1,2\n")


def everything_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def open_descriptors(root: Path) -> list[str]:
    """What this process has open under a root."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return [link for link in links if link.startswith(str(root))]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def expected(content: bytes, *, reused: bool) -> StoredFile:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = tuple((entry.filename, entry.file_size) for entry in archive.infolist())
    return StoredFile(
        path=str(PATH),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        reused=reused,
        listing=Listing(entries, len(entries)),
    )


@pytest.mark.parametrize("size", [1, 1000, MIB - 1, MIB, MIB + 1, len(FILE)])
async def test_a_stream_becomes_a_file(storage: SharedStorage, root: Path, size: int) -> None:
    """However its chunks are cut; digest and size are those of what lies there."""
    chunks = [FILE[at : at + size] for at in range(0, len(FILE), size)] if size > 1 else [FILE[:1], FILE[1:]]

    stored = await storage.store(PATH, stream(*chunks), announced_bytes=len(FILE))

    assert stored == expected(FILE, reused=False)
    assert (root / PATH).read_bytes() == FILE
    assert everything_in(root) == [str(PATH)]
    assert open_descriptors(root) == []


async def test_while_it_comes_the_file_has_a_hidden_name_beside_it(
    storage: SharedStorage, root: Path
) -> None:
    seen: list[str] = []

    async def chunks() -> AsyncIterator[Chunk]:
        yield FILE[:2_000_000]
        seen.extend(everything_in(root))
        yield FILE[2_000_000:]

    await storage.store(PATH, chunks(), announced_bytes=None)

    (name,) = seen
    assert name.startswith("app1/20260131/.20260131_9239cb50.zip.")
    assert name.endswith(".part")


async def test_files_and_directories_have_the_modes_of_the_umask(storage: SharedStorage, root: Path) -> None:
    """Other systems on the shared volume read them."""
    previous = os.umask(0o027)
    try:
        await storage.store(PATH, stream(FILE), announced_bytes=None)
    finally:
        os.umask(previous)

    modes = [mode_of(root / part) for part in (PATH, PATH.parent, PATH.parent.parent)]
    assert modes == [0o640, 0o750, 0o750]


@pytest.mark.parametrize("size", [100, 2 * MIB], ids=["small", "large"])
async def test_modes_that_are_set_hold_whatever_the_umask(root: Path, executor: Threads, size: int) -> None:
    rules = RootRules(file_mode=0o664, directory_mode=0o2775)
    storage = SharedStorage(root, executor, max_file_bytes=64 * MIB, min_free_bytes=0, rules=rules)
    previous = os.umask(0o077)
    try:
        await storage.store(PATH, stream(make_zip(os.urandom(size))), announced_bytes=None)
    finally:
        os.umask(previous)

    modes = [mode_of(root / part) for part in (PATH, PATH.parent, PATH.parent.parent)]
    assert modes == [0o664, 0o2775, 0o2775]


async def test_the_root_may_be_a_link(root: Path, executor: Threads, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    storage = SharedStorage(link, executor, max_file_bytes=64 * MIB, min_free_bytes=0)

    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert (root / PATH).read_bytes() == FILE
    assert await storage.find(PATH) == expected(FILE, reused=True)


async def test_a_good_file_is_found_again(storage: SharedStorage) -> None:
    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert await storage.find(PATH) == expected(FILE, reused=True)


async def test_nothing_is_found_where_nothing_is(storage: SharedStorage, root: Path) -> None:
    assert await storage.find(PATH) is None
    (root / PATH.parent).mkdir(parents=True)
    assert await storage.find(PATH) is None


DAMAGED = {
    "cut off": FILE[:-30],
    "empty": b"",
    "a flipped bit": FILE[:1000] + bytes([FILE[1000] ^ 1]) + FILE[1001:],
    "something else": b"<html>" * 100,
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
async def test_a_damaged_file_is_not_found_and_gets_replaced(
    storage: SharedStorage, root: Path, damaged: bytes
) -> None:
    (root / PATH).parent.mkdir(parents=True)
    (root / PATH).write_bytes(damaged)

    assert await storage.find(PATH) is None
    await storage.store(PATH, stream(FILE), announced_bytes=None)

    assert await storage.find(PATH) == expected(FILE, reused=True)
    assert everything_in(root) == [str(PATH)]


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
async def test_a_damaged_stream_leaves_nothing(storage: SharedStorage, root: Path, damaged: bytes) -> None:
    with pytest.raises(JobError) as caught:
        await storage.store(PATH, stream(damaged), announced_bytes=None)

    assert caught.value.code is ErrorCode.CORRUPT_ARCHIVE
    assert everything_in(root) == []
    assert open_descriptors(root) == []


async def test_a_damaged_stream_leaves_a_good_file_alone(storage: SharedStorage, root: Path) -> None:
    await storage.store(PATH, stream(FILE), announced_bytes=None)

    with pytest.raises(JobError):
        await storage.store(PATH, stream(FILE[:-1]), announced_bytes=None)

    assert (root / PATH).read_bytes() == FILE
    assert everything_in(root) == [str(PATH)]


async def test_a_file_announced_over_the_limit_is_not_begun(root: Path, executor: Threads) -> None:
    storage = SharedStorage(root, executor, max_file_bytes=1000, min_free_bytes=0)

    with pytest.raises(JobError) as caught:
        await storage.store(PATH, stream(FILE), announced_bytes=1001)

    assert caught.value.code is ErrorCode.TOO_LARGE
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("announced", [None, 900])
async def test_a_file_that_grows_over_the_limit_is_cut_off(
    root: Path, executor: Threads, announced: int | None
) -> None:
    storage = SharedStorage(root, executor, max_file_bytes=2 * MIB, min_free_bytes=0)
    given = 0

    async def endless() -> AsyncIterator[Chunk]:
        nonlocal given
        while True:
            given += 1
            yield b"x" * MIB

    with pytest.raises(JobError) as caught:
        await storage.store(PATH, endless(), announced_bytes=announced)

    assert caught.value.code is ErrorCode.TOO_LARGE
    assert given == 3
    assert everything_in(root) == []


async def test_a_file_as_large_as_the_limit_is_stored(root: Path, executor: Threads) -> None:
    storage = SharedStorage(root, executor, max_file_bytes=len(FILE), min_free_bytes=0)

    stored = await storage.store(PATH, stream(FILE), announced_bytes=len(FILE))

    assert stored.size_bytes == len(FILE)


async def test_what_the_stream_raises_comes_out_and_nothing_stays(storage: SharedStorage, root: Path) -> None:
    async def cut_off() -> AsyncIterator[Chunk]:
        yield FILE[:2_000_000]
        raise JobError(ErrorCode.TRUNCATED, "cut")

    with pytest.raises(JobError) as caught:
        await storage.store(PATH, cut_off(), announced_bytes=len(FILE))

    assert caught.value.code is ErrorCode.TRUNCATED
    assert everything_in(root) == []
    assert open_descriptors(root) == []


@pytest.mark.parametrize("chunks_before", range(5))
async def test_a_cancelled_transfer_leaves_nothing(
    storage: SharedStorage, root: Path, chunks_before: int
) -> None:
    """At the deadline, or when the worker drains: no temporary file, no open descriptor."""
    arrived = asyncio.Event()

    async def stall() -> AsyncIterator[Chunk]:
        for _ in range(chunks_before):
            yield b"x" * 700_000
        arrived.set()
        await asyncio.Event().wait()

    storing = asyncio.create_task(storage.store(PATH, stall(), announced_bytes=None))
    await arrived.wait()
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing

    assert everything_in(root) == []
    assert open_descriptors(root) == []


async def test_cancelled_at_any_moment_there_is_the_whole_file_or_none(
    storage: SharedStorage, root: Path
) -> None:
    """Cancelled once in each round of the loop that a transfer takes, and once more while it tidies up."""
    for rounds in range(60):
        storing = asyncio.create_task(storage.store(PATH, stream(FILE), announced_bytes=None))
        for _ in range(rounds):
            await asyncio.sleep(0)
        storing.cancel()
        await asyncio.sleep(0)
        storing.cancel()
        await asyncio.wait([storing])

        assert everything_in(root) in ([], [str(PATH)])
        assert open_descriptors(root) == []
        assert await storage.find(PATH) in (None, expected(FILE, reused=True))
        (root / PATH).unlink(missing_ok=True)


async def test_a_deadline_ends_a_transfer_as_a_timeout(storage: SharedStorage, root: Path) -> None:
    async def stall() -> AsyncIterator[Chunk]:
        yield FILE[:100]
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await storage.store(PATH, stall(), announced_bytes=None)

    assert everything_in(root) == []


def test_a_write_whose_job_was_given_up_ends_in_no_file(root: Path) -> None:
    """It may have hung for hours, and the file be another's since."""
    stop = Stop()
    stop.set()

    with pytest.raises(StoppedError):
        Part(Tree(root, RootRules()), Limits(len(FILE), 0), PATH, ".part").store(FILE, stop)

    assert everything_in(root) == []


async def test_two_concurrent_writers_leave_one_right_file(storage: SharedStorage, root: Path) -> None:
    """As two workers do with the same job."""
    both = await asyncio.gather(
        storage.store(PATH, stream(FILE), announced_bytes=None),
        storage.store(PATH, stream(FILE), announced_bytes=None),
    )

    assert set(both) == {expected(FILE, reused=False)}
    assert everything_in(root) == [str(PATH)]


async def test_a_large_file_takes_little_memory(root: Path, executor: Threads) -> None:
    storage = SharedStorage(root, executor, max_file_bytes=1024 * MIB, min_free_bytes=0)
    block = b"\0" * 65536
    head = make_zip(method=0)

    async def large() -> AsyncIterator[Chunk]:
        # A zip may have anything before it; what matters here are the bytes.
        for _ in range(192 * MIB // len(block)):
            yield block
        yield head

    growth = track_peak()
    stored = await storage.store(PATH, large(), announced_bytes=None)

    assert stored.size_bytes > 192 * MIB
    assert growth() < 24 * MIB


async def test_free_space_is_that_of_the_volume(storage: SharedStorage, root: Path) -> None:
    volume = os.statvfs(root)

    space = (await storage.look()).space

    assert abs(space.free_bytes - volume.f_bavail * volume.f_frsize) < 1024 * MIB


async def test_what_is_to_stay_free_stays_free(root: Path, executor: Threads) -> None:
    volume = os.statvfs(root)
    free = volume.f_bavail * volume.f_frsize
    storage = SharedStorage(root, executor, max_file_bytes=2 * free, min_free_bytes=free // 2)

    with pytest.raises(JobError) as caught:
        await storage.store(PATH, stream(FILE), announced_bytes=free * 3 // 4)

    assert caught.value.code is ErrorCode.STORAGE_FULL
    assert everything_in(root) == []


def leave(root: Path, path: str, *, age: float) -> Path:
    left = root / path
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"left behind")
    os.utime(left, (time.time() - age,) * 2)
    return left


UNIQUE = "0123456789abcdef" * 2


async def test_only_stale_temporary_files_are_swept(storage: SharedStorage, root: Path) -> None:
    stale = [
        leave(root, f"app1/20260131/.20260131_x.zip.{UNIQUE}.part", age=101),
        leave(root, f"app.2/20260201/.20260201_y-1.zip.{UNIQUE}.part", age=1e9),
    ]
    young = leave(root, f"app1/20260131/.20260131_y.zip.{UNIQUE}.part", age=50)

    assert await swept(storage, 100) == 2

    assert [path for path in stale if path.exists()] == []
    assert young.exists()


NOT_OURS = [
    "app1/20260131/20260131_x.zip",
    f"app1/20260131/20260131_x.zip.{UNIQUE}.part",
    "app1/20260131/.20260131_x.zip.part",
    "app1/20260131/.hidden.part",
    f"app1/20260131/.notes.zip.{UNIQUE}.part",
    f"app1/20260131/.20260132_x.zip.{UNIQUE}.part",
    f"app1/20260201/.20260131_x.zip.{UNIQUE}.part",
    f"app1/20260131/deeper/.20260131_x.zip.{UNIQUE}.part",
    f"app1/.20260131_x.zip.{UNIQUE}.part",
    f".20260131_x.zip.{UNIQUE}.part",
    f".snapshot/20260131/.20260131_x.zip.{UNIQUE}.part",
    f"app 1/20260131/.20260131_x.zip.{UNIQUE}.part",
    f"app1/20260131/.20260131_x.zip.{UNIQUE}.part.bak",
]


@pytest.mark.parametrize("path", NOT_OURS)
async def test_nothing_else_is_swept_however_old(storage: SharedStorage, root: Path, path: str) -> None:
    other = leave(root, path, age=1e9)

    assert await swept(storage, 100) == 0

    assert other.exists()


async def test_the_sweep_leaves_directories_named_like_temporary_files(
    storage: SharedStorage, root: Path
) -> None:
    directory = root / f"app1/20260131/.20260131_x.zip.{UNIQUE}.part"
    directory.mkdir(parents=True)
    os.utime(directory, (0, 0))

    assert await swept(storage, 100) == 0


async def test_a_transfer_that_runs_is_not_swept(storage: SharedStorage) -> None:
    async def chunks() -> AsyncIterator[Chunk]:
        yield FILE[:2_000_000]
        assert await swept(storage, 100) == 0
        yield FILE[2_000_000:]

    await storage.store(PurePosixPath(PATH), chunks(), announced_bytes=None)
