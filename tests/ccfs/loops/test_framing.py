"""An answer that can be read in two ways is not read at all."""

import pytest

from schemas import ErrorCode
from tests.ccfs.loops.transfers import OpenTo
from tests.ccfs.raw import Peer, response
from tests.ccfs.samples import make_zip, read_all
from worker.errors import JobError

FILE = make_zip(b"the file asked for")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(FILE)

HOSTILE = {
    "two lengths": OK + LENGTH + b"Content-Length: 5\r\n\r\n" + FILE,
    "the length twice": OK + LENGTH + LENGTH + b"\r\n" + FILE,
    "a list of lengths": OK + b"Content-Length: %d, 5\r\n\r\n" % len(FILE) + FILE,
    "a signed length": OK + b"Content-Length: +%d\r\n\r\n" % len(FILE) + FILE,
    "a hexadecimal length": OK + b"Content-Length: 0x%x\r\n\r\n" % len(FILE) + FILE,
    "an empty length": OK + b"Content-Length:\r\n\r\n" + FILE,
    "a length of 2**64": OK + b"Content-Length: 18446744073709551616\r\n\r\n" + FILE,
    "a length of 2**64 - 1": OK + b"Content-Length: 18446744073709551615\r\n\r\n" + FILE,
    "a length and chunks": OK + LENGTH + CHUNKED[len(OK) :] + b"0\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + b"0\r\n\r\n",
    "another encoding": OK + b"Transfer-Encoding: gzip\r\n\r\n" + FILE,
    "an unknown encoding": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + FILE,
    "two encodings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" + CHUNKED[len(OK) :] + b"0\r\n\r\n",
    "chunked and identity": OK + b"Transfer-Encoding: identity\r\n" + CHUNKED[len(OK) :] + b"0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-4\r\n" + FILE,
    "a chunk of 2**64": CHUNKED + b"10000000000000000\r\n" + FILE,
    "a chunk size with a prefix": CHUNKED + b"0x4\r\nPK\x03\x04\r\n0\r\n\r\n",
    "a chunk size after a blank": CHUNKED + b" 4\r\nPK\x03\x04\r\n0\r\n\r\n",
    "no chunk size": CHUNKED + b"\r\nPK\x03\x04",
    "a chunk longer than it says": CHUNKED + b"4\r\nPK\x03\x04more\r\n0\r\n\r\n",
    "a chunk without its end": CHUNKED + b"4\r\nPK\x03\x040\r\n\r\n",
    "a chunk with a bare line feed": CHUNKED + b"4\nPK\x03\x04\n0\n\n",
    "a head with bare line feeds": (OK + LENGTH).replace(b"\r", b"") + b"\n" + FILE,
    "a header that goes on in the next line": OK + b"X: y\r\n z\r\n" + LENGTH + b"\r\n" + FILE,
    "a blank before the colon": OK + LENGTH.replace(b":", b" :") + b"\r\n" + FILE,
    "a NUL in a header": OK + b"X: \0\r\n" + LENGTH + b"\r\n" + FILE,
    "a NUL in a name": OK + b"X\0: y\r\n" + LENGTH + b"\r\n" + FILE,
    "many headers": OK + b"X: y\r\n" * 1000 + LENGTH + b"\r\n" + FILE,
    "many trailers": CHUNKED + b"4\r\nPK\x03\x04\r\n0\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "a huge trailer": CHUNKED + b"4\r\nPK\x03\x04\r\n0\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\n" + FILE,
    "another protocol's name": b"HTTPS/1.1 200 OK\r\n" + LENGTH + b"\r\n" + FILE,
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n" + LENGTH + b"\r\n" + FILE,
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + FILE,
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
async def test_ambiguous_framing_is_an_upstream_error(client_of: OpenTo, answer: bytes) -> None:
    """And nothing of it is left for the next request."""
    asked = 0

    async def answer_once(peer: Peer) -> None:
        nonlocal asked
        asked += 1
        await peer.request()
        await peer.send(answer if asked == 1 else response(FILE))
        await peer.until_hung_up()

    async with client_of(answer_once) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)
        assert await read_all(client) == FILE

    assert caught.value.code is ErrorCode.UPSTREAM_ERROR
    assert asked == 2


GOOD = {
    "chunks": CHUNKED + b"4\r\n" + FILE[:4] + b"\r\n%x\r\n" % (len(FILE) - 4) + FILE[4:] + b"\r\n0\r\n\r\n",
    "chunks with extensions": CHUNKED + b'%x;a="b"\r\n%b\r\n0;c\r\n\r\n' % (len(FILE), FILE),
    "chunks with trailers": CHUNKED + b"%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(FILE), FILE),
    "chunked in capitals": CHUNKED.replace(b"chunked", b"CHUNKED")
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(FILE), FILE),
    "empty lines before the answer": b"\r\n\r\n" + response(FILE),
    "early hints": b"HTTP/1.1 103 Early\r\nContent-Length: 7\r\n\r\n" + response(FILE),
    "no reason": response(FILE).replace(b" Any reason", b""),
}


@pytest.mark.parametrize("step", [1, 3, 10**6], ids="steps of {}".format)
@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD.keys())
async def test_good_framing_is_read_however_it_comes(client_of: OpenTo, answer: bytes, step: int) -> None:
    """And its connection serves the next request."""
    connections = 0

    async def answer_in_steps(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        while True:
            await peer.request()
            for at in range(0, len(answer), step):
                await peer.send(answer[at : at + step])

    async with client_of(answer_in_steps) as client:
        for _ in range(2):
            assert await read_all(client) == FILE

    assert connections == 1


@pytest.mark.parametrize("rest", [b"\r\n", b"\n", b"\r", b"0\r\n\r\n", response(FILE), response(FILE)[:9]])
async def test_what_follows_the_last_chunk_ends_the_connection(client_of: OpenTo, rest: bytes) -> None:
    connections = 0

    async def send_too_much(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.request()
        await peer.send(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(FILE), FILE) + rest)
        await peer.until_hung_up()

    async with client_of(send_too_much) as client:
        for _ in range(2):
            assert await read_all(client) == FILE

    assert connections == 2
