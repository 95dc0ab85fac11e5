"""Large bodies, block by block: whole, or with the error that it was."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.loops.transfers import OpenTo
from tests.ccfs.raw import Peer, Script, answering, response, serving
from tests.ccfs.samples import JOB, KEY, PATH, OpenClient, make_zip, read_all
from worker.ccfs import CcfsClient
from worker.errors import JobError
from worker.storage import SharedStorage

MIB = 1024**2
FILE = make_zip(os.urandom(20 * MIB + 12345), method=0)
PART = len(FILE) // 2


async def failure(client: CcfsClient) -> JobError:
    with pytest.raises(JobError) as caught:
        await read_all(client)
    assert caught.value.http_status == 200
    return caught.value


def sending(*pieces: bytes, then: Callable[[Peer], Awaitable[None] | None] | None = None) -> Script:
    """A script that answers in pieces, so that the client sees each by itself, and then does something."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
            # Nothing depends on it: pieces that come together are another case that has to go well.
            await asyncio.sleep(0.02)
        if then is not None and (last := then(peer)) is not None:
            await last

    return script


async def test_a_file_arrives_whole(client_of: OpenTo) -> None:
    async with client_of(answering(response(FILE))) as client:
        assert await read_all(client) == FILE


async def test_a_file_may_come_in_small_pieces_with_pauses(client_of: OpenTo) -> None:
    body = FILE[:5000]
    pieces = [body[at : at + 500] for at in range(0, len(body), 500)]
    async with client_of(sending(response(body)[: -len(body)], *pieces), idle_timeout=5) as client:
        assert await read_all(client) == body


async def test_bytes_beyond_the_announced_ones_are_not_stored(client_of: OpenTo) -> None:
    async with client_of(answering(response(FILE) + b"more than announced")) as client:
        assert await read_all(client) == FILE


@pytest.mark.parametrize("end", [None, Peer.reset], ids=["closed", "reset"])
async def test_cut_in_mid_body_is_truncated(client_of: OpenTo, end: Callable[[Peer], None] | None) -> None:
    async with client_of(sending(response(FILE)[:-PART], then=end)) as client:
        assert (await failure(client)).code is ErrorCode.TRUNCATED


async def test_silence_in_mid_body_times_out(client_of: OpenTo) -> None:
    script = sending(response(FILE)[:-PART], then=Peer.until_hung_up)
    async with client_of(script, idle_timeout=0.5) as client:
        assert (await failure(client)).code is ErrorCode.TIMEOUT


async def test_garbage_in_the_tls_is_truncated(client_for: OpenClient, authority: Authority) -> None:
    """As from a middlebox that puts its own words into the connection."""

    async def garble(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE)[:-PART])
        peer.send_below_tls(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        await peer.until_hung_up()

    async with (
        serving(garble, tls=authority.server()) as server,
        client_for(server.base_url, tls=authority.client()) as client,
    ):
        assert (await failure(client)).code is ErrorCode.TRUNCATED


async def test_an_end_that_comes_with_the_first_bytes_is_truncated(
    client_of: OpenTo, storage: SharedStorage
) -> None:
    """As from a proxy whose own server died: the connection may be closing before it is taken over."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE)[:5000])

    async with client_of(cut) as client:
        for _ in range(5):
            with pytest.raises(JobError) as caught:
                async with client.open(JOB, KEY) as file:
                    await storage.store(PATH, file.chunks, announced_bytes=file.announced_bytes)
            assert caught.value.code is ErrorCode.TRUNCATED


async def test_the_storage_writes_what_came(client_of: OpenTo, storage: SharedStorage, root: Path) -> None:
    async with client_of(answering(response(FILE))) as client, client.open(JOB, KEY) as file:
        stored = await storage.store(PATH, file.chunks, announced_bytes=file.announced_bytes)

    assert (root / PATH).read_bytes() == FILE
    assert await storage.find(PATH) is not None
    assert stored.size_bytes == len(FILE)


async def test_a_cancelled_transfer_hangs_up_and_leaves_nothing(
    client_of: OpenTo, storage: SharedStorage, root: Path
) -> None:
    arrived, hung_up = asyncio.Event(), asyncio.Event()

    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE)[:-PART])
        arrived.set()
        await peer.until_hung_up()
        hung_up.set()

    async def fetch(client: CcfsClient) -> None:
        async with client.open(JOB, KEY) as file:
            await storage.store(PATH, file.chunks, announced_bytes=file.announced_bytes)

    async with client_of(stall) as client:
        fetching = asyncio.create_task(fetch(client))
        await arrived.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await hung_up.wait()

    assert [path for path in root.rglob("*") if path.is_file()] == []
