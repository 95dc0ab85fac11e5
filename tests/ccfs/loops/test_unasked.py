"""What a server sends unasked ends the connection, however little of it has come."""

import asyncio

import pytest

from tests.ccfs.authority import Authority
from tests.ccfs.loops.transfers import OpenTo
from tests.ccfs.raw import Peer, response, serving
from tests.ccfs.samples import OpenClient, make_zip, read_all
from tests.ccfs.sealed import Sealed
from tests.ccfs.unasked import OTHER

FILE = make_zip(b"the file asked for")


@pytest.mark.parametrize("part", [1, 4, 5, 6, 100, -1], ids="{} bytes".format)
@pytest.mark.parametrize("is_idle", [False, True], ids=["behind the answer", "while idle"])
async def test_part_of_a_record_ends_the_connection(
    client_for: OpenClient, authority: Authority, part: int, is_idle: bool
) -> None:
    """Its rest would come with the next answer, and complete somebody else's file before that."""
    may_send, sent = asyncio.Event(), asyncio.Event()
    context = authority.server()

    async def send_too_much(peer: Peer) -> None:
        tls = Sealed(peer, context)
        await tls.shake_hands()
        await tls.request()
        if sent.is_set():
            await peer.send(tls.seal(response(FILE)))
            await peer.until_hung_up()
            return
        asked, unasked = tls.seal(response(FILE)), tls.seal(response(OTHER))
        await peer.send(asked if is_idle else asked + unasked[:part])
        if is_idle:
            await may_send.wait()
            await peer.send(unasked[:part])
        sent.set()
        await tls.request()
        await peer.send(unasked[part:] + tls.seal(response(FILE)))

    async with serving(send_too_much) as server:
        base_url = server.base_url.replace("http:", "https:")
        async with client_for(base_url, tls=authority.client()) as client:
            assert await read_all(client) == FILE
            may_send.set()
            await sent.wait()
            assert await read_all(client) == FILE

    assert server.connections == 2


async def test_what_waits_in_the_kernel_ends_the_connection(client_of: OpenTo) -> None:
    """The event loop has not seen it yet when the next request wants to go out."""
    sent = asyncio.Event()

    async def answer_twice(peer: Peer) -> None:
        await peer.request()
        if sent.is_set():
            await peer.send(response(FILE))
            await peer.until_hung_up()
            return
        await peer.send(response(FILE))
        await peer.send(response(OTHER))
        sent.set()
        await peer.until_hung_up()

    async with client_of(answer_twice) as client:
        assert await read_all(client) == FILE
        await sent.wait()
        assert await read_all(client) == FILE
