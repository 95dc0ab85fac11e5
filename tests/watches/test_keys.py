"""A key directory that does not answer: intake pauses, no attempt is counted, and it comes back by itself."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import ErrorCode
from worker.ccfs.keys import KeyDirectory, Keyring
from worker.core.gate import Gate
from worker.errors import JobError
from worker.storage import Threads
from worker.watches.keys import KEYS, KeyWatch


@pytest.fixture
async def reader() -> AsyncIterator[Threads]:
    with Threads(1) as threads:
        yield threads


@pytest.fixture
async def hung(reader: Threads) -> AsyncIterator[threading.Event]:
    """The reader's thread hangs in a call until this is set."""
    release, began = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        release.wait()

    call = reader.start(hang)
    await asyncio.to_thread(began.wait)
    yield release
    release.set()
    await call


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def keyring(reader: Threads, tmp_path: Path) -> Keyring:
    (tmp_path / "app1").write_text("a-key")
    return Keyring(KeyDirectory(tmp_path), call=reader.start, patience=0.05)


@pytest.fixture
async def watch(keyring: Keyring, reader: Threads, gate: Gate) -> AsyncIterator[KeyWatch]:
    made = KeyWatch(keyring, reader, gate, clock=lambda: datetime(2026, 8, 1, 12, tzinfo=UTC))
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


async def failure(keyring: Keyring) -> JobError:
    with pytest.raises(JobError) as raised:
        await keyring.recent("app1")
    return raised.value


async def test_silence_pauses_intake_until_the_key_is_read(
    watch: KeyWatch, keyring: Keyring, gate: Gate, hung: threading.Event
) -> None:
    assert await watch.failed(await failure(keyring))
    assert gate.reasons[KEYS].startswith("the key directory does not answer since 2026-08-01T11:59:5")

    hung.set()
    await gate.wait_open()
    assert await keyring.recent("app1") == "a-key"


async def test_a_key_that_is_missing_is_an_answer_too(
    watch: KeyWatch, keyring: Keyring, gate: Gate, hung: threading.Event, tmp_path: Path
) -> None:
    assert await watch.failed(await failure(keyring))
    (tmp_path / "app1").unlink()
    hung.set()
    await gate.wait_open()
    assert not await watch.failed(await failure(keyring))


async def test_a_deadline_that_ends_a_read_is_silence_too(
    watch: KeyWatch, reader: Threads, gate: Gate
) -> None:
    """The whole-job deadline may come before the bound of the read."""
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader.start(release.wait)
    answered = JobError(ErrorCode.TIMEOUT, "the job took too long", asked=True)
    assert not await watch.failed(answered)
    unasked = JobError(ErrorCode.TIMEOUT, "the job took too long", asked=False)
    assert await watch.failed(unasked)
    assert KEYS in gate.reasons
    release.set()
    await gate.wait_open()
    assert not await watch.failed(unasked)


@pytest.mark.parametrize("code", [ErrorCode.STORAGE_ERROR, ErrorCode.UNKNOWN_APP, ErrorCode.UPSTREAM_ERROR])
async def test_other_failures_say_nothing_of_keys(watch: KeyWatch, gate: Gate, code: ErrorCode) -> None:
    assert not await watch.failed(JobError(code, "something else"))
    assert gate.is_open
