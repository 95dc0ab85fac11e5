"""Looks at the volume: they write only when it is in doubt, and then decide whose trouble an error is."""

import asyncio
import errno
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import ErrorCode
from tests.storage.syscalls import fail
from worker.core.gate import Gate
from worker.errors import JobError
from worker.storage import SharedStorage, Threads
from worker.watches.volume import STORAGE, VolumeWatch

ERROR = JobError(ErrorCode.STORAGE_ERROR, "storage: app1/20260131/x.zip: Input/output error")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def lookout() -> Iterator[Threads]:
    """The thread of the looks alone."""
    with Threads(1) as threads:
        yield threads


@pytest.fixture
def watch(root: Path, executor: Threads, lookout: Threads, gate: Gate) -> VolumeWatch:
    storage = SharedStorage(root, executor, lookout=lookout, max_file_bytes=1, min_free_bytes=0)
    return VolumeWatch(
        storage,
        gate,
        clock=lambda: datetime(2026, 8, 1, 12, tzinfo=UTC),
        min_free_bytes=0,
        check_interval=3600,
        hang_after=3600,
        stale_after=3600,
    )


async def test_an_error_of_one_file_is_that_jobs_trouble(watch: VolumeWatch, gate: Gate, root: Path) -> None:
    """A file can be written meanwhile, and nothing of it stays."""
    changed = root.stat().st_mtime_ns

    assert not await watch.failed(ERROR)
    assert gate.is_open
    assert list(root.iterdir()) == []
    assert root.stat().st_mtime_ns > changed


async def test_a_volume_in_no_doubt_is_not_written_to(watch: VolumeWatch, root: Path) -> None:
    changed = root.stat().st_mtime_ns

    assert not await watch.failed(JobError(ErrorCode.TIMEOUT, "the job took longer than 1 s"))
    assert watch.space.free_bytes > 0
    assert root.stat().st_mtime_ns == changed


async def test_a_look_from_before_an_error_does_not_decide(
    watch: VolumeWatch, gate: Gate, lookout: Threads
) -> None:
    """It did not write: another one does."""
    fail(lookout, "unlinkat", errno.EROFS)
    go = threading.Event()
    lookout.start(go.wait)
    earlier = asyncio.create_task(watch.failed(JobError(ErrorCode.TIMEOUT, "the job took longer than 1 s")))
    await asyncio.sleep(0)
    failing = asyncio.create_task(watch.failed(ERROR))
    await asyncio.sleep(0)
    go.set()

    assert await failing
    assert STORAGE in gate.reasons
    assert not await earlier
