"""A download that the storage holds up holds up no other."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path, PurePosixPath

import pytest

from tests.ccfs.loops.transfers import OpenTo
from tests.ccfs.raw import Peer, answering, response
from tests.ccfs.samples import JOB, KEY, make_zip, read_all
from tests.memory import track_peak
from worker.ccfs import CcfsClient
from worker.errors import JobError
from worker.storage import SharedStorage, Threads

MIB = 1024**2
FILE = make_zip(os.urandom(5 * MIB), method=0)


async def test_files_that_nobody_reads_hold_up_no_other(client_of: OpenTo) -> None:
    async with client_of(answering(response(FILE), keep=True)) as client, AsyncExitStack() as stack:
        for _ in range(8):
            file = await stack.enter_async_context(client.open(JOB, KEY))
            await anext(file.chunks)
        for _ in range(3):
            assert await read_all(client) == FILE


async def test_a_file_that_nobody_reads_takes_two_blocks(client_of: OpenTo) -> None:
    """The rest of it stays with the server, over TLS as well."""
    stalled = asyncio.Event()

    async def send_on(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(FILE) + 64 * MIB) + FILE)
        for _ in range(64):
            sending = asyncio.ensure_future(peer.send(bytes(MIB)))
            await asyncio.wait([sending], timeout=0.5)
            if not sending.done():
                stalled.set()
            await sending

    async with client_of(send_on) as client:
        growth = track_peak()
        async with client.open(JOB, KEY) as file:
            await anext(file.chunks)
            await stalled.wait()
            assert growth() < 24 * MIB


@pytest.fixture
def many_threads() -> Iterator[Threads]:
    with Threads(4) as threads:
        yield threads


async def test_two_hung_writes_hold_up_nobody(client_of: OpenTo, root: Path, many_threads: Threads) -> None:
    storage = SharedStorage(root, many_threads, max_file_bytes=64 * MIB, min_free_bytes=0)
    may_go_on, half = asyncio.Event(), len(FILE) // 2
    asked = 0

    async def hold_two(peer: Peer) -> None:
        nonlocal asked
        while True:
            await peer.request()
            asked += 1
            answer = response(FILE)
            if asked <= 2:
                await peer.send(answer[:half])
                await may_go_on.wait()
                answer = answer[half:]
            await peer.send(answer)

    async def fetch(client: CcfsClient, name: str) -> None:
        async with client.open(JOB, KEY) as file:
            await storage.store(
                PurePosixPath(f"app1/20260131/{name}"), file.chunks, announced_bytes=file.announced_bytes
            )

    async with client_of(hold_two) as client:
        hung = [asyncio.create_task(fetch(client, f"hung{number}.zip")) for number in range(2)]
        while len(parts := list(root.rglob(".*.part"))) < 2:  # noqa: ASYNC110 - a directory has no event for it
            await asyncio.sleep(0.01)
        reading, writing = os.pipe()
        for part in parts:
            os.dup2(writing, descriptor_of(part))
        os.close(writing)
        may_go_on.set()
        await asyncio.gather(*(fetch(client, f"{number}.zip") for number in range(4)))
        assert not any(task.done() for task in hung)
        # The pipe is full and its writers hang, until nobody reads from it.
        os.close(reading)
        for task in hung:
            with suppress(JobError):
                await task

    assert sorted(path.name for path in root.rglob("*.zip")) == [f"{number}.zip" for number in range(4)]


def descriptor_of(path: Path) -> int:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if entry.readlink() == path:
                return int(entry.name)
    raise AssertionError(path)
