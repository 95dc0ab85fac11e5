"""No answer, however hostile, takes more than a bounded time and a bounded amount of memory."""

import asyncio
from contextlib import suppress

import pytest

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.raw import Peer, serving
from tests.ccfs.samples import JOB, KEY, OpenClient, read_all
from tests.memory import track_peak
from worker.errors import JobError

MIB = 1024**2
MEMORY = 32 * MIB
BLOCK = b"x" * 65536
CHUNK = b"10000\r\n" + BLOCK + b"\r\n"
HEADERS, TRAILERS = b"X-Header: some value\r\n" * 1000, b"X-Trailer: some value\r\n" * 1000
CHUNKED = b"HTTP/1.1 %d Any\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
GIBIBYTE = b"HTTP/1.1 %d Any\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n"
SHORT = {"connect_timeout": 1, "idle_timeout": 1}

ENDLESS = {
    "a gibibyte beside an error status": (GIBIBYTE % 500, BLOCK, ErrorCode.UPSTREAM_ERROR),
    "an endless body beside an error status": (CHUNKED % 503, CHUNK, ErrorCode.FLOW_CONTROL),
    "an endless error beside 200": (CHUNKED % 200, CHUNK, ErrorCode.UPSTREAM_ERROR),
    "a gibibyte of whitespace": (GIBIBYTE % 200, b" " * 65536, ErrorCode.UPSTREAM_ERROR),
    "a gibibyte of nesting": (GIBIBYTE % 200, b'{"a":' * 10000, ErrorCode.UPSTREAM_ERROR),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", HEADERS, ErrorCode.UPSTREAM_ERROR),
    "one endless header": (b"HTTP/1.1 200 OK\r\nX: ", BLOCK, ErrorCode.UPSTREAM_ERROR),
    "an endless header name": (b"HTTP/1.1 200 OK\r\n", BLOCK, ErrorCode.UPSTREAM_ERROR),
    "an endless status line": (b"HTTP/1.1 200 ", BLOCK, ErrorCode.UPSTREAM_ERROR),
    "endless informational answers": (b"", b"HTTP/1.1 103 Early\r\n\r\n" * 1000, ErrorCode.TIMEOUT),
    "an endless chunk extension": (CHUNKED % 200 + b"5;", BLOCK, ErrorCode.UPSTREAM_ERROR),
    "endless zeros in a chunk size": (CHUNKED % 200, b"0" * 65536, ErrorCode.UPSTREAM_ERROR),
    "endless trailers": (CHUNKED % 200 + b"0\r\n", TRAILERS, ErrorCode.UPSTREAM_ERROR),
}


@pytest.mark.parametrize(("beginning", "forever", "code"), ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_endless_answers_are_cut_off(
    client_for: OpenClient,
    authority: Authority,
    beginning: bytes,
    forever: bytes,
    code: ErrorCode,
    over_tls: bool,
) -> None:
    hung_up = asyncio.Event()

    async def go_on(peer: Peer) -> None:
        await peer.request()
        await peer.send(beginning)
        await peer.send_for_ever(forever)
        hung_up.set()

    growth = track_peak()
    async with (
        serving(go_on, tls=authority.server() if over_tls else None) as server,
        client_for(server.base_url, tls=authority.client(), connect_timeout=1, idle_timeout=1) as client,
    ):
        with pytest.raises(JobError) as caught:
            await read_all(client)
        # Immediately, not when the server has sent all.
        await hung_up.wait()

    assert caught.value.code is code
    assert growth() < MEMORY


DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", ErrorCode.TIMEOUT, None),
    "an error status": (CHUNKED % 503, b"1\r\n{\r\n", ErrorCode.FLOW_CONTROL, 503),
    "an error": (CHUNKED % 200, b"1\r\n{\r\n", ErrorCode.TIMEOUT, 200),
}


@pytest.mark.parametrize(("beginning", "drop", "code", "status"), DRIPS.values(), ids=DRIPS.keys())
async def test_what_drips_for_ever_ends_in_time(
    client_for: OpenClient, beginning: bytes, drop: bytes, code: ErrorCode, status: int | None
) -> None:
    """Each drop comes within the idle timeout, which therefore never strikes."""
    hung_up = asyncio.Event()

    async def drip(peer: Peer) -> None:
        await peer.request()
        await peer.send(beginning)
        with suppress(OSError):
            while True:
                await peer.send(drop)
                await asyncio.sleep(0.05)
        hung_up.set()

    async with serving(drip) as server, client_for(server.base_url, **SHORT) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)
        await hung_up.wait()

    assert (caught.value.code, caught.value.http_status) == (code, status)


async def test_tiny_chunks_take_no_more_memory_than_large_ones(client_for: OpenClient) -> None:
    """While nobody reads the file, what comes in of it stays in the kernel."""
    paused = asyncio.Event()

    async def trickle(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED % 200 + b"4\r\nPK\x03\x04\r\n")
        with suppress(OSError):
            while True:
                sending = asyncio.ensure_future(peer.send(b"1\r\nx\r\n" * 65536))
                await asyncio.wait([sending], timeout=0.5)
                if not sending.done():
                    paused.set()
                await sending

    growth = track_peak()
    async with serving(trickle) as server, client_for(server.base_url) as client, client.open(JOB, KEY):
        await paused.wait()
        assert growth() < MEMORY
