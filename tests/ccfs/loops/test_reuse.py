"""A connection that brought a large file serves other requests, too, and never at a job's expense."""

import asyncio
import json
import os
from contextlib import suppress
from functools import cache

import pytest

from tests.ccfs.loops.transfers import OpenTo
from tests.ccfs.raw import Peer, response
from tests.ccfs.samples import JOB, KEY, make_zip, read_all
from tests.ccfs.unasked import OTHER, UNASKED

LARGE = make_zip(os.urandom(3 * 1024**2), method=0)
SMALL = make_zip(b"a small file")


class Answers:
    """A server's script: the first answer as the test wants it, then file after file, on any connection."""

    def __init__(self, first: bytes, *others: bytes) -> None:
        self._answers = [first, *others]
        self.connections = 0

    async def __call__(self, peer: Peer) -> None:
        self.connections += 1
        while self._answers:
            await peer.request()
            await peer.send(self._answers.pop(0))
        await peer.until_hung_up()


async def test_a_connection_outlives_large_files(client_of: OpenTo) -> None:
    answers = Answers(*(response(body) for body in (LARGE, LARGE, SMALL, LARGE)))
    async with client_of(answers) as client:
        for _ in range(2):
            assert await read_all(client) == LARGE
        assert await read_all(client) == SMALL
        assert await read_all(client) == LARGE

    assert answers.connections == 1


@pytest.mark.parametrize("unasked", UNASKED)
async def test_what_follows_a_file_is_not_taken_for_an_answer(client_of: OpenTo, unasked: bytes) -> None:
    """Otherwise one job's file would be stored under another's name."""
    answers = Answers(response(LARGE) + unasked, response(LARGE), response(SMALL))
    async with client_of(answers) as client:
        assert await read_all(client) == LARGE
        assert await read_all(client) == LARGE
        assert await read_all(client) == SMALL

    assert answers.connections == 2


async def test_what_an_idle_connection_brings_is_not_an_answer(client_of: OpenTo) -> None:
    may_send, sent = asyncio.Event(), asyncio.Event()

    async def send_too_much(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(LARGE))
        if not sent.is_set():
            await may_send.wait()
            await peer.send(response(OTHER))
            sent.set()
        await peer.request()
        await peer.send(response(SMALL))

    async with client_of(send_too_much) as client:
        assert await read_all(client) == LARGE
        may_send.set()
        await sent.wait()
        for _ in range(5):
            # Rounds of the loop in which the bytes reach the connection that waits in the pool.
            await asyncio.sleep(0)
        assert await read_all(client) == LARGE
        assert await read_all(client) == SMALL


async def test_the_server_may_want_it_closed(client_of: OpenTo) -> None:
    answers = Answers(response(LARGE, Connection="close"), response(SMALL))
    async with client_of(answers) as client:
        assert await read_all(client) == LARGE
        assert await read_all(client) == SMALL

    assert answers.connections == 2


async def test_the_server_may_close_it_without_a_word(client_of: OpenTo) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(LARGE))

    async with client_of(hang_up) as client:
        for _ in range(3):
            assert await read_all(client) == LARGE


async def test_a_file_that_was_not_received_to_its_end_takes_it_along(client_of: OpenTo) -> None:
    answers = Answers(response(LARGE), response(SMALL))
    async with client_of(answers) as client:
        async with client.open(JOB, KEY) as file:
            await anext(file.chunks)
        assert await read_all(client) == SMALL

    assert answers.connections == 2


async def test_a_cancelled_reader_takes_it_along(client_of: OpenTo) -> None:
    async def stall(peer: Peer) -> None:
        await peer.request()
        answer = (stalled.is_set() and response(SMALL)) or response(LARGE)[:-1]
        stalled.set()
        await peer.send(answer)
        await peer.until_hung_up()

    stalled = asyncio.Event()
    async with client_of(stall) as client:
        reading = asyncio.create_task(read_all(client))
        await stalled.wait()
        await asyncio.sleep(0)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        assert await read_all(client) == SMALL


async def test_without_keep_alive_each_request_has_its_own(client_of: OpenTo) -> None:
    answers = Answers(response(LARGE), response(SMALL), response(SMALL))
    async with client_of(answers, keep_alive=False) as client:
        assert await read_all(client) == LARGE
        for _ in range(2):
            assert await read_all(client) == SMALL

    assert answers.connections == 3


async def test_cancelled_at_any_moment_the_next_job_gets_its_own_file(client_of: OpenTo) -> None:
    """Cancelled once in each round of the loop that a download takes, with connections that are kept."""

    @cache
    def file_of(name: str) -> bytes:
        return make_zip(name.encode() * 20_000, method=0)

    async def answer(peer: Peer) -> None:
        while True:
            request = await peer.request()
            name = json.loads(request.body)["msgBody"]["billFileName"]
            await peer.send(response(file_of(name)))

    async with client_of(answer) as client:
        for rounds in range(80):
            first, second = (
                JOB.model_copy(update={"bill_file_name": f"20260131_{rounds}-{n}.zip"}) for n in (1, 2)
            )
            reading = asyncio.create_task(read_all(client, first))
            for _ in range(rounds):
                await asyncio.sleep(0)
            reading.cancel()
            assert await read_all(client, second) == file_of(second.bill_file_name)
            with suppress(asyncio.CancelledError):
                assert await reading == file_of(first.bill_file_name)
