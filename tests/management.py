"""Servers in the place of RabbitMQ's management API, with answers as RabbitMQ 3.10, 4.0 and 4.3 gave them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request, whose head it is given."""


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server that answers as it is told; gives `host:port`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(await reader.readuntil(b"\r\n\r\n"), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def answering(body: bytes, *headers: str, status: str = "200 OK") -> Serve:
    """Answers every request with this."""

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return serve


def cluster(*queues: dict[str, Any], nodes: Sequence[str] = ("a", "b", "c")) -> Serve:
    """Answers as the nodes of a cluster do that have these queues."""
    pages = answering(json.dumps({"items": queues, "page": 1}).encode())
    names = answering(json.dumps([{"name": node} for node in nodes]).encode())

    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        await (names if head.startswith(b"GET /api/nodes?") else pages)(head, writer)

    return serve


async def silence(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Reads the request and never answers."""
    await writer.wait_closed()
