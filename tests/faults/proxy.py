"""A TCP proxy whose lines can be cut, reset, silenced and slowed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.sockets import reset_on_close

_CHUNK = 64 * 1024


class Proxy:
    """Stands before a server. Made by `open_proxy`.

    Attributes:
        port: Where it listens.
        accepted: How many connections it has taken.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._gates: dict[int, asyncio.Event] = {}
        self._is_silent = False
        self._delay = 0.0
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0

    async def open(self) -> None:
        """Listen: on a free port at first, later on the same one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut every line and refuse new ones until `open`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Close every line in good order (FIN)."""
        for line in list(self._lines):
            line.close()

    def reset(self) -> None:
        """Reset every line (RST)."""
        for line in list(self._lines):
            reset_on_close(line.get_extra_info("socket"))
            line.transport.abort()

    def silence(self, line: int | None = None) -> None:
        """Let nothing through any more in either direction, and close nothing: a black hole.

        Args:
            line: The number, from 1, of the only line to silence; None silences all, new ones too.
        """
        self._is_silent = line is None
        for number, gate in self._gates.items():
            if line in {None, number}:
                gate.clear()

    def speak(self) -> None:
        """Let everything through again."""
        self._is_silent = False
        for gate in self._gates.values():
            gate.set()

    def slow(self, seconds: float) -> None:
        """Hold each piece of at most 64 KiB back for so long."""
        self._delay = seconds

    async def close(self) -> None:
        """Cut and forget everything."""
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        gate = self._gates[self.accepted] = asyncio.Event()
        # A black hole also swallows new calls: the peer hears nothing, not even a refusal.
        if not self._is_silent:
            gate.set()
        task = asyncio.create_task(self._serve(reader, writer, gate))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        await gate.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._lines |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer, gate), self._pump(far_reader, writer, gate))
        finally:
            self._lines -= {writer, far_writer}
            for line in (writer, far_writer):
                line.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await gate.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def open_proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """Open a proxy before `host:port`."""
    proxy = Proxy(host, port)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
