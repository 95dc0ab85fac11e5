"""Connections are kept between requests, and never at a job's expense."""

import asyncio
import gc

import pytest

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.raw import Peer, answering, response, serving
from tests.ccfs.samples import JOB, KEY, OpenClient, make_zip, read_all
from tests.ccfs.unasked import OTHER, UNASKED
from worker.ccfs import pool
from worker.ccfs.response import Response
from worker.errors import JobError

FILE = make_zip(b"the file asked for")


async def test_a_connection_serves_many_requests(client_for: OpenClient) -> None:
    """A TLS handshake costs more than a small file."""
    async with serving(answering(response(FILE), keep=True)) as server, client_for(server.base_url) as client:
        for _ in range(5):
            assert await read_all(client) == FILE

    assert (len(server.requests), server.connections) == (5, 1)


async def test_a_connection_keeps_nothing_of_what_it_served(client_for: OpenClient) -> None:
    """A healthy CC-FS keeps one open for days, and millions of answers."""
    in_two_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(FILE), FILE)

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(in_two_chunks)
            # Rounds of the loop in which the headers are read before the body is complete.
            for _ in range(5):
                await asyncio.sleep(0)
            await peer.send(b"0\r\n\r\n")

    async with serving(serve) as server, client_for(server.base_url) as client:
        for _ in range(100):
            assert await read_all(client) == FILE
        gc.collect()
        bodies = sum(isinstance(thing, Response) for thing in gc.get_objects())

    assert server.connections == 1
    assert bodies < 10


@pytest.mark.parametrize("way", ["closed", "reset"])
async def test_a_kept_connection_that_died_costs_no_attempt(client_for: OpenClient, way: str) -> None:
    """The server may close it at the very moment that the next request goes out."""

    async def hang_up_on_the_second_request(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE))
        await peer.request()
        if way == "reset":
            peer.reset()

    async with serving(hang_up_on_the_second_request) as server, client_for(server.base_url) as client:
        for _ in range(4):
            assert await read_all(client) == FILE

    assert len(server.requests) == 7


async def test_a_kept_connection_that_dies_unused_is_no_news(
    client_for: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Asyncio tells of every error that nobody has looked at."""
    is_read = asyncio.Event()

    async def reset_later(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE)[:-1])
        await peer.send(response(FILE)[-1:])
        await is_read.wait()
        peer.reset()

    async with serving(reset_later) as server, client_for(server.base_url) as client:
        assert await read_all(client) == FILE
        is_read.set()
        while server.connections < 2:
            assert await read_all(client) == FILE

    gc.collect()
    assert not caplog.records


async def test_a_request_is_repeated_once_and_on_a_new_connection(client_for: OpenClient) -> None:
    """As after a restart of CC-FS: the other kept connections may be dead as well."""
    together = asyncio.Barrier(3)

    async def serve_once(peer: Peer) -> None:
        await peer.request()
        if not restarted.is_set():
            await together.wait()
        await peer.send(response(FILE))
        await peer.request()

    restarted = asyncio.Event()
    async with serving(serve_once) as server, client_for(server.base_url) as client:
        await asyncio.gather(*(read_all(client) for _ in range(3)))
        restarted.set()
        assert await read_all(client) == FILE

    assert (server.connections, len(server.requests)) == (4, 5)


async def test_a_fresh_connection_that_dies_is_a_failure(client_for: OpenClient) -> None:
    """It is not asked again and again without a pause: that is what attempts are for."""

    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async with serving(hang_up) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)

    assert caught.value.code is ErrorCode.UPSTREAM_UNREACHABLE
    assert len(server.requests) == 1


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("unasked", UNASKED)
async def test_what_came_unasked_is_not_taken_for_an_answer(
    client_for: OpenClient, authority: Authority, unasked: bytes, over_tls: bool
) -> None:
    """Otherwise one job's file would be stored under another's name."""
    may_send, sent = asyncio.Event(), asyncio.Event()

    async def send_too_much(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE))
        if not sent.is_set():
            await may_send.wait()
            await peer.send(unasked)
            sent.set()
        while True:
            await peer.request()
            await peer.send(response(FILE))

    tls = authority.server() if over_tls else None
    async with (
        serving(send_too_much, tls=tls) as server,
        client_for(server.base_url, tls=authority.client()) as client,
    ):
        assert await read_all(client) == FILE
        may_send.set()
        await sent.wait()
        for _ in range(5):
            # Rounds of the loop in which the bytes reach the connection that waits in the pool.
            await asyncio.sleep(0)
        for _ in range(3):
            assert await read_all(client) == FILE


async def test_a_length_that_counts_as_none_ends_its_connection(client_for: OpenClient) -> None:
    """What it announced would otherwise be the answer to the next request."""

    async def announce_all(peer: Peer) -> None:
        await peer.request()
        if server.connections == 1:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n")
            await peer.request()
            await peer.send(response(OTHER))
        await peer.send(response(FILE))

    async with serving(announce_all) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError):
            await read_all(client)
        assert await read_all(client) == FILE


async def test_an_answer_that_was_not_read_takes_its_connection_along(client_for: OpenClient) -> None:
    """It is not read to its end: that may be gigabytes away."""
    large = FILE + b"\0" * 8 * 1024**2
    async with (
        serving(answering(response(large), keep=True)) as server,
        client_for(server.base_url) as client,
    ):
        async with client.open(JOB, KEY):
            pass
        assert await read_all(client) == large

    assert server.connections == 2


async def test_a_probe_wants_any_answer_at_all(client_for: OpenClient) -> None:
    async with serving(answering(response(status=405))) as server, client_for(server.base_url) as client:
        await client.probe()

    assert server.requests[0].line.startswith("GET /CCFS/")
    assert "authorization" not in server.requests[0].headers


async def test_a_probe_of_a_dead_server_says_so(client_for: OpenClient) -> None:
    async with serving(answering(b"")) as server:
        pass
    async with client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await client.probe()

    assert caught.value.code is ErrorCode.UPSTREAM_UNREACHABLE


async def test_a_connection_that_idles_is_closed(
    client_for: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall may have forgotten it, and says so to nobody."""
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.05)
    hung_up = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE))
        await peer.until_hung_up()
        hung_up.set()

    async with serving(serve) as server, client_for(server.base_url) as client:
        assert await read_all(client) == FILE
        await hung_up.wait()
