"""A TCP balancer before the nodes of a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

Address = tuple[str, int]
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 64 * 1024
_PATIENCE = 2.0
"""Seconds for a node to take a connection, or to answer a client's first words."""


class Balancer:
    """Gives each connection to the next node in turn, as HAProxy's `balance roundrobin` does.

    A node that refuses a connection is passed over. Made by `open_balancer`.

    Attributes:
        port: Where it listens.
        notices: Whether a node that takes a connection and says nothing is passed over, too.
    """

    def __init__(self, nodes: Sequence[Address], *, notices: bool) -> None:
        self._nodes = list(nodes)
        self._tasks: set[asyncio.Task[None]] = set()
        self.notices = notices
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients connect, as guest."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def serve(self) -> asyncio.Server:
        """Listen on a free port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1")
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def cut(self) -> None:
        """Close every connection."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Both AMQP and TLS have the client speak first.
            greeting = await reader.read(_CHUNK)
            for address in self._turn():
                if node := await self._dial(address, greeting, writer):
                    await _join((reader, writer), node)
                    break
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def _turn(self) -> Iterator[Address]:
        self._nodes.append(self._nodes.pop(0))
        yield from list(self._nodes)

    async def _dial(self, address: Address, greeting: bytes, client: asyncio.StreamWriter) -> _Streams | None:
        """Connect to a node and pass the client's first words on; None when the next one is to be tried."""
        writer = None
        with suppress(OSError):
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(greeting)
                if not self.notices:
                    return reader, writer
                if answer := await reader.read(_CHUNK):
                    client.write(answer)
                    return reader, writer
        if writer is not None:
            writer.transport.abort()
        return None


async def _join(client: _Streams, node: _Streams) -> None:
    try:
        await asyncio.gather(_pump(client[0], node[1]), _pump(node[0], client[1]))
    finally:
        node[1].transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    sink.close()


@asynccontextmanager
async def open_balancer(nodes: Sequence[Address], *, notices: bool = True) -> AsyncIterator[Balancer]:
    """Open a balancer before nodes."""
    balancer = Balancer(nodes, notices=notices)
    server = await balancer.serve()
    try:
        yield balancer
    finally:
        server.close()
        await balancer.cut()
