"""Large bodies, received on threads past aiohttp: whole, or with the same error."""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.loops.transfers import OpenTo, drain, receive_all
from tests.ccfs.raw import Peer, Script, answering, response, serving
from tests.ccfs.samples import JOB, KEY, PATH, OpenClient, make_zip
from worker.ccfs import CcfsClient
from worker.errors import JobError
from worker.storage import SharedStorage

MIB = 1024**2
FILE = make_zip(os.urandom(20 * MIB + 12345), method=0)
PART = len(FILE) // 2


async def failure(client: CcfsClient) -> JobError:
    with pytest.raises(JobError) as caught:
        await receive_all(client)
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
        assert await receive_all(client) == FILE


@pytest.mark.parametrize("seconds", [0.0, 0.3])
async def test_what_aiohttp_had_read_ahead_is_not_lost(client_of: OpenTo, seconds: float) -> None:
    """Whether it had stopped by then, with some of the TLS not decrypted, or was in the middle of it.

    The wait makes the former likely; the file arrives either way.
    """
    async with client_of(answering(response(FILE))) as client:
        assert await receive_all(client, first=partial(asyncio.sleep, seconds)) == FILE


async def test_the_end_of_a_file_may_have_been_read_ahead(client_of: OpenTo) -> None:
    """So that nothing comes from the connection any more, which the server keeps."""
    body = FILE[: 300 * 1024]
    script = sending(response(body), then=Peer.until_hung_up)
    async with client_of(script, idle_timeout=5) as client, client.open(JOB, KEY) as file:
        content = bytearray()
        # Time to read ahead; whether all of it was used decides which way is taken below.
        await asyncio.sleep(0.3)
        incoming = await file.take_over()
        if incoming is None:
            content.extend(b"".join([chunk async for chunk in file.chunks]))
        else:
            await drain(incoming, content.extend)
    assert content == body


async def test_a_file_may_come_in_small_pieces_with_pauses(client_of: OpenTo) -> None:
    body = FILE[:5000]
    pieces = [body[at : at + 500] for at in range(0, len(body), 500)]
    async with client_of(sending(response(body)[: -len(body)], *pieces), idle_timeout=5) as client:
        assert await receive_all(client) == body


async def test_bytes_beyond_the_announced_ones_do_not_get_into_the_file(client_of: OpenTo) -> None:
    async with client_of(answering(response(FILE) + b"more than announced")) as client:
        assert await receive_all(client) == FILE


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
                    await storage.store(
                        PATH, file.chunks, announced_bytes=file.announced_bytes, take_over=file.take_over
                    )
            assert caught.value.code is ErrorCode.TRUNCATED


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(FILE), FILE),
        b"HTTP/1.0 200 OK\r\n\r\n" + FILE,
    ],
    ids=["chunked", "until closed"],
)
async def test_a_body_without_a_length_is_left_to_aiohttp(client_of: OpenTo, answer: bytes) -> None:
    async with client_of(answering(answer)) as client, client.open(JOB, KEY) as file:
        assert await file.take_over() is None
        assert b"".join([chunk async for chunk in file.chunks]) == FILE


async def test_the_storage_takes_large_files_over(
    client_of: OpenTo, storage: SharedStorage, root: Path
) -> None:
    async with client_of(answering(response(FILE))) as client, client.open(JOB, KEY) as file:
        stored = await storage.store(
            PATH, file.chunks, announced_bytes=file.announced_bytes, take_over=file.take_over
        )

        assert await anext(aiter(file.chunks)) != b"", "the chunks were read"
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
            await storage.store(
                PATH, file.chunks, announced_bytes=file.announced_bytes, take_over=file.take_over
            )

    async with client_of(stall) as client:
        fetching = asyncio.create_task(fetch(client))
        await arrived.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await hung_up.wait()

    assert [path for path in root.rglob("*") if path.is_file()] == []


async def test_a_thread_is_given_back_though_bytes_keep_coming(client_of: OpenTo) -> None:
    """Otherwise a few large files would hold all threads, and small ones would wait for their end."""
    async with client_of(answering(response(FILE))) as client, client.open(JOB, KEY) as file:
        incoming = await file.take_over()
        assert incoming is not None
        # Using one block takes longer than a turn.
        await asyncio.to_thread(incoming.receive, lambda _: time.sleep(0.03), threading.Event())
        assert not incoming.is_whole


async def test_told_to_stop_it_receives_no_more(client_of: OpenTo) -> None:
    stop = threading.Event()
    blocks: list[int] = []

    def use(block: memoryview) -> None:
        blocks.append(len(block))
        stop.set()

    async with client_of(answering(response(FILE))) as client, client.open(JOB, KEY) as file:
        incoming = await file.take_over()
        assert incoming is not None
        await asyncio.to_thread(incoming.receive, use, stop)
    assert len(blocks) == 1


async def test_a_thread_is_given_back_though_a_record_trickles_in(
    client_for: OpenClient, authority: Authority
) -> None:
    """Of the threads that decrypt there are few."""

    async def trickle(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE)[:5000])
        # The head of a record of application data, of the largest size (RFC 8446, section 5.2).
        peer.send_below_tls(b"\x17\x03\x03\x41\x00")
        while True:
            peer.send_below_tls(b"\0")
            # This is the fault itself, and orders nothing: each byte comes before the thread's patience ends.
            await asyncio.sleep(0.001)

    async with (
        serving(trickle, tls=authority.server()) as server,
        client_for(server.base_url, tls=authority.client()) as client,
        client.open(JOB, KEY) as file,
    ):
        incoming = await file.take_over()
        assert incoming is not None
        stop = threading.Event()
        receiving = asyncio.create_task(asyncio.to_thread(incoming.receive, lambda _: None, stop))
        # All of the record takes sixteen seconds at least.
        done, _ = await asyncio.wait([receiving], timeout=8)
        await receiving
        assert done
