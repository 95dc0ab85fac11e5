"""Requests to a simulator, signed as CC-FS wants them, and the answers to them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp

from worker.ccfs import signing
from worker.net.tls import client_context
from worker.simulator import Fault, Simulator

PATH = "/CCFS/resource/ccfs/downloadBillFile"
NAME = "20260102_9239cb50a8384bb0ab503441bf089446.zip"
KEYS = {"app1": "secret-1", "app2": "secret-2"}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def body_of(name: Any = NAME, version: Any = "2.0") -> bytes:
    return json.dumps({"request": {"version": version}, "msgBody": {"billFileName": name}}).encode()


def signed(
    simulator: Simulator,
    body: bytes,
    *,
    app_id: str = "app1",
    secret: str | None = None,
    at: datetime | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request for `body`, signed as CC-FS wants them."""
    sent = {
        "Host": simulator.url.partition("//")[2],
        "Content-Type": "application/json; charset=UTF-8",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    value = signing.authorization(
        signing.Request(method="POST", path=PATH, headers=sent, body=body),
        access_key=app_id,
        secret_key=secret or KEYS[app_id],
        timestamp=signing.format_timestamp(at or datetime.now(UTC)),
    )
    return {**sent, "Authorization": value}


class Answer:
    """An answer read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def code(self) -> str:
        """Its resultCode."""
        return str(json.loads(self.body)["resultCode"])


async def post(
    http: aiohttp.ClientSession,
    simulator: Simulator,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    path: str = PATH,
) -> Answer:
    """Send a request, a good one unless told otherwise."""
    body = body_of() if body is None else body
    tls = client_context(ca_file=simulator.ca_file) if simulator.ca_file else True
    async with http.post(
        simulator.url + path,
        data=body,
        headers=headers or signed(simulator, body),
        ssl=tls,
        allow_redirects=False,
    ) as response:
        return Answer(response, await response.read())


class Call:
    """A bare connection with one request sent over it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def head(self) -> list[str]:
        """The lines of the answer's head."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        return head.decode().strip().split("\r\n")

    async def read(self, count: int) -> bytes:
        """That many bytes."""
        return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """All that comes until the connection is closed in good order."""
        return await self._reader.read()

    async def is_silent(self) -> bool:
        """Whether neither a byte nor an end comes for a little while."""
        try:
            await asyncio.wait_for(self._reader.read(1), 0.1)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def call(simulator: Simulator, fault: Fault | None) -> AsyncIterator[Call]:
    """Ask a simulator without TLS for a file whose answer has that fault."""
    simulator.plan = lambda _: fault
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=8 * 1024 * 1024)
    headers = signed(simulator, body_of(), at=NOW) | {"Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body_of())
    yield Call(reader)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def file_of(simulator: Simulator, *, sound: bool = True) -> bytes:
    """The file that `call` asks for."""
    return b"".join(simulator.bill("app1", NAME, sound=sound).blocks())
