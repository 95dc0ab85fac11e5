"""A TCP proxy whose lines can be cut, reset, silenced, slowed, and held from a certain AMQP answer on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.sockets import reset_on_close

_CHUNK = 64 * 1024
_FRAME_HEADER = 7
_FRAME_END = 1
_METHOD_FRAME = 1


@dataclass
class _Line:
    """A client's connection.

    Attributes:
        client: Its end of ours.
        gate: Open while anything is let through.
        held: What the AMQP server said on the channels that are held.
    """

    client: asyncio.StreamWriter
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    held: dict[bytes, bytearray] = field(default_factory=dict)

    def speak(self) -> None:
        held, self.held = self.held, {}
        if not self.client.is_closing():
            self.client.write(b"".join(held.values()))
        self.gate.set()


class Proxy:
    """Stands before a server. Made by `open_proxy`.

    Attributes:
        port: Where it listens.
        accepted: How many connections it has taken.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._numbered: dict[int, _Line] = {}
        self._is_silent = False
        self._held_answer = b""
        self._deaf: list[socket.socket] = []
        self._delay = 0.0
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0

    async def open(self) -> None:
        """Listen: on a free port at first, later on the same one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut every line and refuse new ones until `open`."""
        self._close_listener()
        self.cut()

    def cut(self) -> None:
        """Close every line in good order (FIN)."""
        for end in list(self._ends):
            end.close()

    def reset(self) -> None:
        """Reset every line (RST)."""
        for end in list(self._ends):
            reset_on_close(end.get_extra_info("socket"))
            end.transport.abort()

    def silence(self, line: int | None = None) -> None:
        """Let nothing through any more in either direction, and close nothing: a black hole.

        Args:
            line: The number, from 1, of the only line to silence; None silences all, new ones too.
        """
        self._is_silent = line is None
        for number, found in self._numbered.items():
            if line in {None, number}:
                found.gate.clear()

    def speak(self) -> None:
        """Let everything through again."""
        self._is_silent = False
        self._held_answer = b""
        for line in self._numbered.values():
            line.speak()

    async def deafen(self) -> None:
        """Answer no new call, not even as TCP does, until `hear`; open lines go on.

        The kernel drops the calls to a listener whose backlog is full (listen(2)).
        """
        self._close_listener()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=0)
        # One more fits than the backlog says.
        waiting = socket.create_connection(("127.0.0.1", self.port))
        self._deaf = [listener, waiting]

    async def hear(self) -> None:
        """Take new calls again."""
        self._forget_deafness()
        await self.open()

    def hold_answer(self, method: tuple[int, int]) -> None:
        """Hold back what an AMQP server says on a channel from the next such method on, until `speak`.

        Other channels and the connection's heartbeats go on, as where one queue does not answer.

        Args:
            method: Its class and its number in it, such as (50, 11) for `queue.declare-ok` (AMQP 0-9-1).
        """
        self._held_answer = b"".join(part.to_bytes(2, "big") for part in method)

    def slow(self, seconds: float) -> None:
        """Hold each piece of at most 64 KiB back for so long."""
        self._delay = seconds

    async def close(self) -> None:
        """Cut and forget everything."""
        await self.refuse()
        self._forget_deafness()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _forget_deafness(self) -> None:
        for end in self._deaf:
            end.close()
        self._deaf.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        line = self._numbered[self.accepted] = _Line(writer)
        # A black hole also swallows new calls: the peer hears nothing, not even a refusal.
        if not self._is_silent:
            line.gate.set()
        task = asyncio.create_task(self._serve(reader, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, line: _Line) -> None:
        writer = line.client
        await line.gate.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._ends |= {writer, far_writer}
        answers = _Frames()
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, line, lambda data: data),
                self._pump(far_reader, writer, line, lambda data: self._pass(line, answers.split(data))),
            )
        finally:
            self._ends -= {writer, far_writer}
            for end in (writer, far_writer):
                end.close()

    def _pass(self, line: _Line, frames: Iterator[bytes]) -> bytes:
        """Give what of an AMQP server's frames goes on now."""
        passed = bytearray()
        for frame in frames:
            channel, method = frame[1:3], frame[_FRAME_HEADER : _FRAME_HEADER + 4]
            if self._held_answer and frame[0] == _METHOD_FRAME and method == self._held_answer:
                line.held.setdefault(channel, bytearray())
            line.held.get(channel, passed).extend(frame)
        return bytes(passed)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        line: _Line,
        passed: Callable[[bytes], bytes],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await line.gate.wait()
                sink.write(passed(data))
                await sink.drain()
        sink.close()


class _Frames:
    """Cuts what an AMQP server says into frames; leaves alone what is no AMQP."""

    def __init__(self) -> None:
        self._left = bytearray()
        self._is_amqp: bool | None = None

    def split(self, data: bytes) -> Iterator[bytes]:
        """Give the frames that are whole by now."""
        if self._is_amqp is None:
            # A server's first word is `connection.start`. That of TLS, HTTP begins with other bytes.
            self._is_amqp = data[0] == _METHOD_FRAME
        if not self._is_amqp:
            yield data
            return
        self._left += data
        while len(self._left) >= _FRAME_HEADER and len(self._left) >= (length := self._frame_length()):
            frame = bytes(self._left[:length])
            del self._left[:length]
            yield frame

    def _frame_length(self) -> int:
        return _FRAME_HEADER + int.from_bytes(self._left[3:_FRAME_HEADER], "big") + _FRAME_END


@asynccontextmanager
async def open_proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """Open a proxy before `host:port`."""
    proxy = Proxy(host, port)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
