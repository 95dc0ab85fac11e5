"""The HTTP server gives its clients little to hold, and answers only those who know what it is called."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.installation import PATIENCE
from tests.observe.statuses import BUSY
from worker.observe import web
from worker.observe.status import Status

MIB = 1024**2
IDLE = b""
HALF_SENT = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Served(NamedTuple):
    """A server, and the stack that it stands on."""

    port: int
    stack: AsyncExitStack


async def read() -> Status:
    return BUSY


@asynccontextmanager
async def serving(*allowed_hosts: str, patience: float = PATIENCE) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        server = web.serve(
            "127.0.0.1",
            0,
            checks={"broker": lambda: ""},
            render=lambda: bytes(64 * MIB),
            status=read,
            allowed_hosts=allowed_hosts,
            patience=patience,
        )
        yield Served(await stack.enter_async_context(server), stack)


async def ask(port: int, *hosts: str, path: str = "/livez") -> tuple[int, bytes]:
    """Ask as one would who knows the worker by these names; gives status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    named = "".join(f"Host: {host}\r\n" for host in hosts)
    version = "1.1" if hosts else "1.0"
    writer.write(f"GET {path} HTTP/{version}\r\n{named}Connection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "10.1.2.3", "localhost", "LOCALHOST:1", "localhost."],
)
async def test_addresses_and_localhost_are_answered(host: str) -> None:
    async with serving() as served:
        assert await ask(served.port, host) == (200, b'{"status": "ok"}')


async def test_a_name_that_is_allowed_is_answered() -> None:
    async with serving("Worker.calls.svc") as served:
        for host in ("worker.calls.svc", "WORKER.CALLS.SVC.:8080"):
            assert (await ask(served.port, host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8080",
        "",
        "2130706433",
        "x@127.0.0.1",
        "[::1",
        "::1",
    ],
)
@pytest.mark.parametrize("path", ["/status", "/metrics", "/readyz", "/livez", "/", "/nowhere"])
async def test_a_name_that_somebody_else_gave_is_refused(host: str, path: str) -> None:
    """A web page could read the status, once its own name leads here (DNS rebinding)."""
    async with serving("worker.calls.svc") as served:
        status, body = await ask(served.port, host, path=path)

    assert status in {400, 421}
    if status == 421:
        assert b"WORKER_HTTP__ALLOWED_HOSTS" in body
        assert body.count(b"\n") == 1


async def test_a_second_name_does_not_help() -> None:
    async with serving() as served:
        assert (await ask(served.port, "localhost", "evil.example"))[0] in {400, 421}


async def test_a_prober_without_a_name_is_answered() -> None:
    """HTTP/1.0 needs none, and every browser sends one."""
    async with serving() as served:
        assert (await ask(served.port))[0] == 200


@pytest.mark.parametrize("sent", [IDLE, HALF_SENT], ids=["idle", "half-sent"])
async def test_the_last_comer_is_served_beside_any_number(sent: bytes) -> None:
    """kubelet's probe, when somebody holds as many connections as he can."""
    async with serving() as served:
        held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(70)]
        for _, writer in held:
            writer.write(sent)
        assert (await ask(served.port, "127.0.0.1"))[0] == 200
        # The first of them made way.
        assert await held[0][0].read() == b""
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("sent", [IDLE, HALF_SENT], ids=["idle", "half-sent"])
async def test_a_client_that_does_not_ask_is_hung_up_on(sent: bytes) -> None:
    async with serving(patience=0.2) as served, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(sent)
        came = await reader.read()
        writer.close()

    assert came == b""


async def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    async with serving(patience=0.2) as served, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readexactly(1)
        # From now on the answer stands in the server's buffer, until it is given up.
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await closed_at(served.port, writer.get_extra_info("sockname")[1])
        writer.transport.abort()


async def closed_at(port: int, peer: int) -> None:
    """Wait until the server has closed its end: a client that does not read cannot see it."""
    ends = rf":{port:04X} [0-9A-F]+:{peer:04X} 01 "
    while True:
        # "01" is an open one (proc_net_tcp(5)).
        if not re.search(ends, await asyncio.to_thread(Path("/proc/self/net/tcp").read_text)):
            return
        await asyncio.sleep(0.02)


async def test_a_client_that_asks_again_is_kept() -> None:
    """Prometheus does so all the time: each answer renews its patience."""
    async with serving(patience=1) as served, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        clock = asyncio.get_running_loop().time
        began = clock()
        while clock() < began + 2:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert json.loads((await reader.readuntil(b"}")).partition(b"\r\n\r\n")[2]) == {"status": "ok"}
            await asyncio.sleep(0.05)
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [IDLE, HALF_SENT, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"],
    ids=["idle", "half-sent", "unread"],
)
async def test_leaving_waits_for_no_client(sent: bytes) -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
        writer.write(sent)
        if sent.startswith(b"GET /metrics"):
            await reader.readexactly(1)
        assert (await ask(served.port, "127.0.0.1"))[0] == 200
        async with asyncio.timeout(5):
            await served.stack.aclose()
        writer.transport.abort()


async def test_leaving_waits_for_no_answer() -> None:
    asked = asyncio.Event()

    async def never() -> Status:
        asked.set()
        await asyncio.Event().wait()
        return BUSY

    server = web.serve("127.0.0.1", 0, checks={}, render=lambda: b"", status=never)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(server)
        waiting = asyncio.create_task(ask(port, "127.0.0.1", path="/status"))
        await asked.wait()
        async with asyncio.timeout(5):
            await stack.aclose()
        waiting.cancel()
        await asyncio.wait([waiting])
