"""What can go wrong on the way to an answer and in the middle of one."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.raw import Peer, answering, response, serving
from tests.ccfs.samples import JOB, KEY, NOW, OpenClient, make_zip, read_all
from tests.sockets import black_hole
from worker.ccfs import CcfsClient, open_client
from worker.errors import JobError

FILE = make_zip(bytes(range(256)) * 40)
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def failure(client_for: OpenClient, base_url: str, **options: float) -> JobError:
    async with client_for(base_url, **options) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)
    return caught.value


async def read_on(client: CcfsClient, begun: asyncio.Event, rounds: int = 0) -> None:
    """Read a file and say when it has begun to come; the loop goes round that often before the next read."""
    async with client.open(JOB, KEY) as file:
        begun.set()
        for _ in range(rounds):
            await asyncio.sleep(0)
        async for _ in file.chunks:
            pass


def too_long(missing: int) -> bytes:
    """An answer that announces more bytes than it has."""
    return response(FILE).replace(b"Length: %d" % len(FILE), b"Length: %d" % (len(FILE) + missing))


async def test_a_refused_connection_is_unreachable(client_for: OpenClient) -> None:
    async with serving(answering(b"")) as server:
        pass

    error = await failure(client_for, server.base_url)

    assert (error.code, error.http_status) == (ErrorCode.UPSTREAM_UNREACHABLE, None)
    assert "refused" in error.message.lower() or "connect call failed" in error.message.lower()


async def test_an_unknown_name_is_unreachable(client_for: OpenClient) -> None:
    """RFC 2606 keeps `.invalid` for this."""
    error = await failure(client_for, "http://ccfs.invalid:8443")

    assert error.code is ErrorCode.UPSTREAM_UNREACHABLE
    assert "ccfs.invalid" in error.message


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """A listener that accepts nobody and has no room left for connections to wait in."""
    with black_hole() as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_connection_that_does_not_come_about_times_out(
    client_for: OpenClient, full_backlog: str
) -> None:
    error = await failure(client_for, full_backlog, connect_timeout=0.2)

    assert (error.code, error.http_status) == (ErrorCode.TIMEOUT, None)
    assert "WORKER_CCFS__CONNECT_TIMEOUT" in error.message


async def test_a_tls_handshake_that_stalls_times_out(client_for: OpenClient) -> None:
    """The connect timeout covers TLS too."""
    async with serving(Peer.until_hung_up) as server:
        error = await failure(client_for, server.base_url.replace("http:", "https:"), connect_timeout=0.2)

    assert (error.code, error.http_status) == (ErrorCode.TIMEOUT, None)


async def test_silence_before_the_headers_times_out(client_for: OpenClient) -> None:
    async with serving(Peer.until_hung_up) as server:
        error = await failure(client_for, server.base_url, idle_timeout=0.5)

    assert (error.code, error.http_status) == (ErrorCode.TIMEOUT, None)
    assert "WORKER_CCFS__IDLE_TIMEOUT" in error.message


@pytest.mark.parametrize(
    "beginning",
    [response(FILE)[:-100], response(FILE)[: -len(FILE) + 2], JSON_HEAD + b'{"resultCode":'],
    ids=["in a file", "in its first bytes", "in an error"],
)
async def test_silence_after_the_headers_times_out(client_for: OpenClient, beginning: bytes) -> None:
    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.send(beginning)
        await peer.until_hung_up()

    async with serving(stall) as server:
        error = await failure(client_for, server.base_url, idle_timeout=0.5)

    assert (error.code, error.http_status) == (ErrorCode.TIMEOUT, 200)


def in_chunks(content: bytes) -> bytes:
    size = 0x8000
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def until_closed(content: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + content


@pytest.mark.parametrize("framing", [response, in_chunks, until_closed])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_a_slow_reader_is_not_taken_for_a_silent_server(
    client_for: OpenClient, authority: Authority, framing: Callable[[bytes], bytes], over_tls: bool
) -> None:
    """While the storage holds the transfer up, no time runs against CC-FS, which may be long gone."""
    content = make_zip(method=0) + b"\0" * (4 * 1024**2)

    received = 0
    async with (
        serving(answering(framing(content)), tls=authority.server() if over_tls else None) as server,
        client_for(server.base_url, idle_timeout=1, tls=authority.client()) as client,
        client.open(JOB, KEY) as file,
    ):
        async for chunk in file.chunks:
            if not received:
                await asyncio.sleep(1.5)
            received += len(chunk)

    assert received == len(content)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nContent-Le"])
@pytest.mark.parametrize("way", ["closed", "reset"])
async def test_cut_before_the_headers_is_unreachable(client_for: OpenClient, sent: bytes, way: str) -> None:
    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        if way == "reset":
            peer.reset()

    async with serving(cut) as server:
        error = await failure(client_for, server.base_url)

    assert (error.code, error.http_status) == (ErrorCode.UPSTREAM_UNREACHABLE, None)


@pytest.mark.parametrize(
    "sent",
    [
        too_long(1),
        too_long(10**12),
        response(FILE)[: -len(FILE)],
        response(FILE)[: -len(FILE) + 3],
        CHUNKED + b"%x\r\n" % len(FILE) + FILE,
        CHUNKED + b"%x\r\n" % len(FILE) + FILE + b"\r\n",
        CHUNKED + b"%x\r\n" % len(FILE) + FILE[:-7],
        JSON_HEAD + b'{"resultCode": "03000',
    ],
    ids=[
        "a byte missing",
        "a terabyte missing",
        "no byte of the body",
        "three bytes of the body",
        "between chunks",
        "before the last chunk",
        "within a chunk",
        "within an error",
    ],
)
async def test_cut_after_the_headers_is_truncated(client_for: OpenClient, sent: bytes) -> None:
    async with serving(answering(sent)) as server:
        error = await failure(client_for, server.base_url)

    assert (error.code, error.http_status) == (ErrorCode.TRUNCATED, 200)


async def test_an_error_shows_nothing_of_what_the_server_sent(client_for: OpenClient) -> None:
    """It goes into events and logs."""
    async with serving(answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=secret\r\nContent")) as server:
        error = await failure(client_for, server.base_url)

    assert "secret" not in error.message


@pytest.mark.parametrize("announced", [True, False])
async def test_reset_in_mid_body_is_truncated(client_for: OpenClient, announced: bool) -> None:
    arrived = asyncio.Event()

    async def reset(peer: Peer) -> None:
        await peer.request()
        await peer.send(too_long(1) if announced else CHUNKED + b"%x\r\n" % len(FILE) + FILE)
        # It throws away what the other side has not read yet.
        await arrived.wait()
        peer.reset()

    async with serving(reset) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_on(client, arrived)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.TRUNCATED, 200)


async def test_an_error_status_counts_even_when_its_body_is_cut(client_for: OpenClient) -> None:
    answer = response(b"x" * 100, status=503, Retry_After="7")[:-50]
    async with serving(answering(answer)) as server:
        error = await failure(client_for, server.base_url)

    assert (error.code, error.http_status, error.retry_after) == (ErrorCode.FLOW_CONTROL, 503, 7)


GARBAGE = {
    "text": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x03\x00\x02\x02\x50",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "a word for a status": b"HTTP/1.1 abc OK\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "a word for a length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "a huge header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "a huge reason": b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_is_no_http_is_an_upstream_error(client_for: OpenClient, answer: bytes) -> None:
    async with serving(answering(answer)) as server:
        error = await failure(client_for, server.base_url)

    assert (error.code, error.http_status) == (ErrorCode.UPSTREAM_ERROR, None)


@pytest.mark.parametrize("rest", [b"nonsense\r\n", b"fffffffffffffffff\r\n", b"-5\r\nhello\r\n", b"\0"])
async def test_a_body_whose_framing_breaks_is_an_upstream_error(client_for: OpenClient, rest: bytes) -> None:
    """aiohttp alone would wait for the rest for ever."""
    begun = asyncio.Event()

    async def break_it(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"%x\r\n" % len(FILE) + FILE + b"\r\n")
        await begun.wait()
        await peer.send(rest)
        await peer.until_hung_up()

    async with serving(break_it) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_on(client, begun)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.UPSTREAM_ERROR, 200)


@pytest.mark.parametrize("rounds", range(4))
async def test_a_framing_breaks_whenever_the_reader_looks(client_for: OpenClient, rounds: int) -> None:
    """Between aiohttp's closing of the connection and its saying so lies a round of the loop."""
    begun = asyncio.Event()

    async def break_it(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"4\r\nPK\x03\x04\r\n")
        await begun.wait()
        await peer.send(b"3\r\nabc\r\nnonsense\r\n")
        await peer.until_hung_up()

    async with serving(break_it) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_on(client, begun, rounds)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.UPSTREAM_ERROR, 200)


async def test_bytes_beyond_the_announced_ones_are_not_stored(client_for: OpenClient) -> None:
    async with (
        serving(answering(response(FILE) + b"more than announced")) as server,
        client_for(server.base_url) as client,
    ):
        code, content = None, FILE
        try:
            content = await read_all(client)
        except JobError as error:
            code = error.code

    assert content == FILE
    assert code in {None, ErrorCode.UPSTREAM_ERROR}


async def test_a_body_without_a_length_ends_with_the_connection(client_for: OpenClient) -> None:
    """As in HTTP/1.0; whether it was whole only the zip can tell."""
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n" + FILE
    async with serving(answering(answer)) as server, client_for(server.base_url) as client:
        assert await read_all(client) == FILE


PIECES = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"401", b"503", b"304", b"101", b"204", b" OK"),
    *(b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"7", b"0"),
    *(b"Content-Length: ", b"99999999999999999999", b"Transfer-Encoding: chunked", b"Connection: close"),
    *(b"Content-Type: application/json", b"Content-Encoding: gzip", b"Retry-After: 3"),
    *(b"PK\x03\x04", b"PK\x05\x06", b"{", b"}", b'"resultCode":"0300011"'),
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b";ext=1"),
]
bytes_on_the_wire = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join) | st.binary(max_size=200)
BEGINNINGS = [b"", b"HTTP/1.1 200 OK\r\n", CHUNKED, CHUNKED + b"4\r\nPK\x03\x04\r\n", response(FILE)[:-100]]


@given(beginning=st.sampled_from(BEGINNINGS), rest=bytes_on_the_wire)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_answered_there_is_a_file_or_a_code(beginning: bytes, rest: bytes) -> None:
    """No bytes on the wire, in one piece or two, make the client raise anything else, or hang."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(beginning)
        for _ in range(5):
            # Rounds of the loop in which the client may see the beginning by itself.
            await asyncio.sleep(0)
        await peer.send(rest)

    async def ask() -> ErrorCode | None:
        async with (
            serving(answer) as server,
            open_client(
                base_url=server.base_url, clock=lambda: NOW, connect_timeout=30, idle_timeout=30
            ) as client,
        ):
            try:
                await read_all(client)
            except JobError as error:
                return error.code
            return None

    assert asyncio.run(ask()) is not ErrorCode.TIMEOUT
