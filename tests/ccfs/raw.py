"""A server that a test scripts byte by byte, since what it must show no HTTP library would send."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.sockets import reset_on_close

Script = Callable[["Peer"], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """A request as it came over the wire."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(": ")[::2] for line in lines if line]
        assert len({name.lower() for name, _ in pairs}) == len(pairs), "a header came twice"
        return {name.lower(): value for name, value in pairs}


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def request(self) -> Request:
        """Read the next request; EOFError when the client has hung up instead."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(Request(head, b"").headers.get("content-length", "0"))
        request = Request(head, await self._reader.readexactly(length))
        self._server.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_for_ever(self, data: bytes) -> None:
        """Send until the client hangs up."""
        with suppress(OSError):
            while True:
                await self.send(data)
                # asyncio drops what is written to a connection that is gone, and tells only when it runs.
                await asyncio.sleep(0)

    async def something(self) -> bytes:
        """Read whatever comes, HTTP or not."""
        return await self._reader.read(65536)

    async def until_hung_up(self) -> None:
        """Wait, reading, for the client to close the connection."""
        with suppress(OSError):
            while await self._reader.read(65536):
                pass

    def send_below_tls(self, data: bytes) -> None:
        """Put bytes on the wire that are no TLS."""
        os.write(self._writer.get_extra_info("socket").fileno(), data)

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        reset_on_close(self._writer.get_extra_info("socket"))
        self._writer.transport.abort()


@dataclass
class Server:
    """The server, and what came to it."""

    base_url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def serving(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    address: str = "127.0.0.1",
    name: str = "",
) -> AsyncIterator[Server]:
    """Run a script for each connection that is made.

    Args:
        script: Plays the server's part; when it returns, the connection is closed.
        tls: How the server shows itself; None for plain TCP.
        address: The address to listen on.
        name: What the base URL calls it, when not by its address.
    """
    seen = Server("")
    tasks: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.connections += 1
        try:
            await script(Peer(seen, reader, writer))
        except (EOFError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(play, address, 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    host = name or (f"[{address}]" if ":" in address else address)
    seen.base_url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield seen
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(answer: bytes, *, keep: bool = False) -> Script:
    """A script that reads a request and gives this answer: to each, or to one before it hangs up."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)
            if not keep:
                return

    return script


def response(
    body: bytes = b"",
    *,
    status: int = 200,
    content_type: str | None = "Application/Octet-stream;charset=UTF-8",
    **headers: str,
) -> bytes:
    """A well-formed answer; keyword names are header names with `_` for `-`."""
    lines = [f"HTTP/1.1 {status} Any reason", f"Content-Length: {len(body)}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
