"""The ways to CC-FS: by a proxy, under another name, by whichever of its addresses answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.raw import Peer, answering, response, serving
from tests.ccfs.samples import OpenClient, make_zip, read_all
from tests.sockets import addresses, black_hole
from worker.errors import JobError

FILE = make_zip(b"the file asked for")


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def proxying(before: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a proxy that does CONNECT; gives its URL, and the heads of the requests to it."""
    heads: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        host, _, port = heads[-1].split()[1].decode().rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(before or b"HTTP/1.1 200 Connection established\r\n\r\n")
        for pair in ((reader, back), (there, writer)):
            task = asyncio.create_task(pass_on(*pair))
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def failure(client_for: OpenClient, base_url: str, **options: object) -> JobError:
    async with client_for(base_url, **options) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)
    return caught.value


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
    ],
    ids=["HTTP/1.1", "HTTP/1.0", "with a length"],
)
async def test_a_proxy_leads_there(
    client_for: OpenClient, authority: Authority, before: bytes, over_tls: bool
) -> None:
    """It sees the address alone, once for each connection."""
    tls = authority.server() if over_tls else None
    async with (
        proxying(before) as (proxy_url, heads),
        serving(answering(response(FILE), keep=True), tls=tls) as server,
        client_for(server.base_url, proxy_url=proxy_url, tls=authority.client()) as client,
    ):
        for _ in range(3):
            assert await read_all(client) == FILE

    (head,) = heads
    target = server.base_url.rpartition("/")[2].encode()
    assert head.split(b"\r\n")[:2] == [b"CONNECT %b HTTP/1.1" % target, b"Host: " + target]
    assert b"Authorization" not in head
    assert server.requests[0].headers["host"] == target.decode()


REFUSALS = {
    "it refuses": (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!", "HTTP 502"),
    "it wants a login": (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        "HTTP 407",
    ),
    "it hangs up": (b"", "hung up"),
    "it hangs up in mid-answer": (b"HTTP/1.1 200 Conn", "hung up"),
    "it speaks no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "PROXY_URL"),
    "it redirects": (b"HTTP/1.1 302 Found\r\nLocation: http://login\r\n\r\n", "HTTP 302"),
}


@pytest.mark.parametrize(("answer", "words"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_proxy_that_does_not_lead_there(client_for: OpenClient, answer: bytes, words: str) -> None:
    """That is no answer of CC-FS: it is unreachable, and the line names the setting."""
    async with serving(answering(answer)) as proxy:
        error = await failure(client_for, "https://ccfs.invalid:8443", proxy_url=proxy.base_url)

    assert (error.code, error.http_status) == (ErrorCode.UPSTREAM_UNREACHABLE, None)
    assert "WORKER_CCFS__PROXY_URL" in error.message
    assert words in error.message


async def test_a_slow_proxy_is_within_the_connect_timeout(client_for: OpenClient) -> None:
    async with serving(Peer.until_hung_up) as proxy:
        error = await failure(
            client_for, "https://ccfs.invalid:8443", proxy_url=proxy.base_url, connect_timeout=0.2
        )

    assert error.code is ErrorCode.TIMEOUT
    assert "WORKER_CCFS__CONNECT_TIMEOUT" in error.message


async def test_a_proxy_that_is_not_there(client_for: OpenClient) -> None:
    async with serving(answering(b"")) as proxy:
        pass

    error = await failure(client_for, "https://ccfs.invalid:8443", proxy_url=proxy.base_url)

    assert error.code is ErrorCode.UPSTREAM_UNREACHABLE


async def test_a_proxy_that_cuts_the_tunnel(client_for: OpenClient, authority: Authority) -> None:
    """Before TLS stands, CC-FS cannot be reached."""

    async def cut(peer: Peer) -> None:
        await peer.something()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.something()

    async with serving(cut) as proxy:
        error = await failure(
            client_for, "https://ccfs.invalid:8443", proxy_url=proxy.base_url, tls=authority.client()
        )

    assert (error.code, error.http_status) == (ErrorCode.UPSTREAM_UNREACHABLE, None)


@pytest.mark.parametrize(
    ("certified", "expected", "trusted"),
    [("ccfs.example", "ccfs.example", True), ("ccfs.example", "other.example", False)],
)
async def test_the_certificate_may_have_another_name(
    client_for: OpenClient, authority: Authority, certified: str, expected: str, trusted: bool
) -> None:
    """As on premises, where CC-FS is dialled by its address."""
    async with serving(answering(response(FILE)), tls=authority.server(certified)) as server:
        options = {"tls": authority.client(), "tls_server_name": expected}
        if trusted:
            async with client_for(server.base_url, **options) as client:
                assert await read_all(client) == FILE
        else:
            error = await failure(client_for, server.base_url, **options)
            assert error.code is ErrorCode.UPSTREAM_UNREACHABLE
            assert "WORKER_CCFS__TLS_SERVER_NAME" in error.message


async def test_a_name_is_reached_by_whichever_address_answers(
    client_for: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is black-holed, which alone would take the whole connect timeout."""
    with black_hole() as nowhere:
        async with serving(answering(response(FILE))) as server:
            port = int(server.base_url.rpartition(":")[2])
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses(nowhere, port))
            async with client_for("http://ccfs.example:8443", connect_timeout=30) as client:
                assert await read_all(client) == FILE
