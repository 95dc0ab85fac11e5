"""A proxy that breaks a connection, or one channel of it, behind the n-th frame that the broker sends."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import urlsplit

_HEAD = struct.Struct(">BHI")
_METHOD, _PROTOCOL_HEADER = 1, 8
_CLOSE_OK = struct.pack(">HH", 20, 41)
_DECLARE_OK = struct.pack(">HH", 50, 11)
_REASON = b"test"
_CONSUME_OK = struct.pack(">HH", 60, 21)
_CLOSE_ALL = struct.pack(">HHHB", 10, 50, 541, len(_REASON)) + _REASON + struct.pack(">HH", 0, 0)
_CLOSE = struct.pack(">HHHB", 20, 40, 541, len(_REASON)) + _REASON + struct.pack(">HH", 0, 0)


class Breaks(Enum):
    """What breaks."""

    CONNECTION = auto()
    CHANNEL = auto()
    SILENCE = auto()


class Breaker:
    """Made by `open_breaker`.

    Attributes:
        url: Where clients connect.
        frames: How many frames the broker has sent, on all connections together.
        broken: Is set once it has broken something.
    """

    def __init__(self, url: str, what: Breaks, after: int) -> None:
        self._target = urlsplit(url)
        self._what = what
        self._after = after
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.frames = 0
        self.broken = asyncio.Event()
        self._closed_channel: int | None = None

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                broker_writer.write(await reader.readexactly(_PROTOCOL_HEADER))
                await asyncio.gather(
                    _pump(reader, broker_writer, self._without_close_ok),
                    _pump(broker_reader, writer, self._and_break),
                )
        finally:
            for line in (writer, broker_writer):
                line.close()

    def _and_break(self, kind: int, channel: int, frame: bytes) -> bytes:
        self.frames += 1
        if self.broken.is_set() and self._what is Breaks.SILENCE:
            return b""
        if self.frames != self._after:
            return frame
        self.broken.set()
        if self._what is Breaks.SILENCE:
            return frame
        if self._what is Breaks.CONNECTION or not channel:
            raise ConnectionResetError
        self._closed_channel = channel
        return frame + _HEAD.pack(_METHOD, channel, len(_CLOSE)) + _CLOSE + b"\xce"

    def _without_close_ok(self, kind: int, channel: int, frame: bytes) -> bytes:
        # The broker knows nothing of the channel that was closed here.
        is_ours = channel == self._closed_channel and kind == _METHOD
        if not is_ours or not frame[_HEAD.size :].startswith(_CLOSE_OK):
            return frame
        self._closed_channel = None
        return b""

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, change: Callable[[int, int, bytes], bytes]
) -> None:
    while True:
        head = await source.readexactly(_HEAD.size)
        kind, channel, size = _HEAD.unpack(head)
        sink.write(change(kind, channel, head + await source.readexactly(size + 1)))
        await sink.drain()


class Leaderless(Breaker):
    """Answers for a broker of whose queue the leader is away: no messages, no consumers.

    Attributes:
        is_out: Whether it does so now.
        refuses: Whether who consumes has the connection closed, as by RabbitMQ after five seconds.
    """

    def __init__(self, url: str, queue: str) -> None:
        super().__init__(url, Breaks.SILENCE, 0)
        self._answer = _DECLARE_OK + bytes((len(queue),)) + queue.encode()
        self.is_out = self.refuses = False

    def _and_break(self, kind: int, channel: int, frame: bytes) -> bytes:
        if self.refuses and frame[_HEAD.size :].startswith(_CONSUME_OK):
            return _HEAD.pack(_METHOD, 0, len(_CLOSE_ALL)) + _CLOSE_ALL + frame[-1:]
        if not self.is_out or not frame[_HEAD.size :].startswith(self._answer):
            return frame
        return frame[: _HEAD.size] + self._answer + struct.pack(">II", 0, 0) + frame[-1:]


@asynccontextmanager
async def open_leaderless(url: str, queue: str) -> AsyncIterator[Leaderless]:
    """Stand before a broker, and tell the truth about a queue until `is_out` is set."""
    line = Leaderless(url, queue)
    async with _standing(line, url):
        yield line


@asynccontextmanager
async def open_breaker(url: str, what: Breaks, after: int) -> AsyncIterator[Breaker]:
    """Stand before a broker; with `after` 0 nothing breaks."""
    breaker = Breaker(url, what, after)
    async with _standing(breaker, url):
        yield breaker


@asynccontextmanager
async def _standing(breaker: Breaker, url: str) -> AsyncIterator[None]:
    async with await asyncio.start_server(breaker.accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        breaker.url = f"amqp://guest:guest@127.0.0.1:{port}{urlsplit(url).path}"
        yield
        await breaker.close()
