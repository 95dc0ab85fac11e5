"""A connection's protocol: deliveries, publishes, confirms and acks bypass aiormq, the rest goes through it.

aiormq passes each frame through a stream, a queue and a task or two, which was most of the CPU that a small
job spent on messages. It still does what is rare: handshake, heartbeats, opening, closing, consuming,
declaring.

aiormq (7.2) lets callers choose the transport (`TransportFactory`). Nothing here uses its private parts.
"""

import asyncio
import ssl
from collections.abc import Callable

import aiormq
import structlog
from aiormq.abc import DeliveredMessage
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp.common import FieldTable
from yarl import URL

from worker.broker.frames import BODY, FRAME_END, FRAME_HEAD, HEADER, HEARTBEAT, HEARTBEAT_FRAME, METHOD
from worker.net.dial import dial

_KINDS = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
_LARGEST_FRAME = 1024 * 1024
"""Bytes of a body frame above which it is taken in pieces: with `frame_max` 0 RabbitMQ sends a body of any
length as one frame."""
_LIFE_SIGN_INTERVAL = 1.0
"""Seconds between two heartbeats that aiormq is shown while only frames arrive that it does not see."""
_WRITE_INTERVAL = 0.002
"""Seconds between two writes of a busy connection. Writing is the largest cost of a small job's messages,
here and in the broker. What arrives there together also becomes durable together."""

log = structlog.stdlib.get_logger(__name__)

Take = Callable[[int, bytes], bool]
"""Takes a frame, by its type and payload; False leaves it to aiormq."""


class Wire(asyncio.StreamReaderProtocol):
    """Sorts the frames that a connection receives, and joins those that it sends.

    Args:
        reader: The stream that aiormq reads from.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._takers: dict[int, Take] = {}
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._outgoing: list[bytes] = []
        self._last_write = float("-inf")
        self._speaks_amqp = True
        self._last_life_sign = self._loop.time()

    def lane(self, channel: aiormq.Channel) -> "Lane":
        """Open the way past aiormq on an open channel of this connection."""
        return Lane(self, channel)

    def divert(self, channel: aiormq.Channel, take: Take) -> None:
        """Hand the frames that come on a channel to `take` until it is closed; see `Lane.divert`."""
        number = channel.number
        self._takers[number] = take

        def leave(_: object) -> None:
            # The number may belong to another channel by now.
            if self._takers.get(number) is take:
                del self._takers[number]

        channel.closing.add_done_callback(leave)

    def send(self, frames: bytes) -> None:
        """Send whole frames: immediately on an idle connection, else within `_WRITE_INTERVAL`, joined."""
        if not self._outgoing:
            self._loop.call_at(self._last_write + _WRITE_INTERVAL, self.flush)
        self._outgoing.append(frames)

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Write what waits to be sent."""
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self._transport is not None and not self._transport.is_closing():
            self._last_write = self._loop.time()
            self._transport.write(b"".join(outgoing))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Implements `asyncio.Protocol`."""
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Implements `asyncio.Protocol`."""
        if not self._speaks_amqp:
            return super().data_received(data)
        others = self._sort(self._rest + data if self._rest else data)
        if others:
            super().data_received(others)
        elif self._loop.time() - self._last_life_sign > _LIFE_SIGN_INTERVAL:
            # RabbitMQ sends no heartbeats while other frames flow, and aiormq does not see these.
            self._last_life_sign = self._loop.time()
            super().data_received(HEARTBEAT_FRAME)
        return None

    def _sort(self, data: bytes) -> bytes:
        """Hand out the whole frames, keep the rest, and return those that are for aiormq."""
        others: list[bytes] = []
        start, size = 0, len(data)
        while size - start >= FRAME_HEAD.size:
            kind, channel, length = FRAME_HEAD.unpack_from(data, start)
            if kind not in _KINDS:
                # Not AMQP: leave it to aiormq, which reports what it cannot read.
                self._speaks_amqp, self._rest = False, b""
                others.append(data[start:])
                return b"".join(others)
            payload = start + FRAME_HEAD.size
            end = payload + length + 1
            if end > size:
                if kind == BODY and length > _LARGEST_FRAME and size > payload:
                    start, data = self._split(data, start, others)
                break
            if not self._is_taken(kind, channel, data[payload : end - 1]):
                others.append(data[start:end])
            start = end
        self._rest = data[start:]
        return b"".join(others)

    def _split(self, data: bytes, start: int, others: list[bytes]) -> tuple[int, bytes]:
        """Hand out what has come of a frame as a frame of its own; returns a head for the rest of it."""
        kind, channel, length = FRAME_HEAD.unpack_from(data, start)
        # At least one byte is left for later: the rest must not become an empty frame after a complete body.
        piece = data[start + FRAME_HEAD.size :][: length - 1]
        if not self._is_taken(kind, channel, piece):
            others.append(FRAME_HEAD.pack(kind, channel, len(piece)) + piece + FRAME_END)
        behind = data[start + FRAME_HEAD.size + len(piece) :]
        return 0, FRAME_HEAD.pack(kind, channel, length - len(piece)) + behind

    def _is_taken(self, kind: int, channel: int, payload: bytes) -> bool:
        take = self._takers.get(channel)
        if take is None:
            return False
        try:
            return take(kind, payload)
        except Exception:
            # asyncio closes a connection whose protocol raises. The broker would send the same frame again on
            # the next one.
            log.exception("broker.frame_unreadable", channel=channel, kind=kind)
            return True


class _Writer(asyncio.StreamWriter):
    """The stream that aiormq writes to. It keeps the order: what we sent before goes out first."""

    def __init__(self, transport: asyncio.Transport, wire: Wire, reader: asyncio.StreamReader) -> None:
        super().__init__(transport, wire, reader, asyncio.get_running_loop())
        self._wire = wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Implements `asyncio.StreamWriter`."""
        self._wire.flush()
        super().write(data)


class Lane:
    """A channel on which frames bypass aiormq. Made by `Wire.lane`."""

    def __init__(self, wire: Wire, channel: aiormq.Channel) -> None:
        self._wire = wire
        self.channel = channel
        self.number = channel.number
        self.frame_max: int = channel.connection.connection_tune.frame_max

    @property
    def is_closed(self) -> bool:
        """Whether the channel is no longer open."""
        return self.channel.is_closed

    def divert(self, take: Take) -> None:
        """Hand each frame that comes on the channel to `take`; aiormq gets what it does not take."""
        self._wire.divert(self.channel, take)

    async def consume(
        self, queue: str, *, arguments: FieldTable | None = None, timeout: float | None = None
    ) -> str:
        """Start a consumer, whose deliveries go where `divert` says; returns its tag."""

        async def never_called(_: DeliveredMessage) -> None:
            # aiormq asks for a callback, but never sees a delivery.
            pass

        answer = await self.channel.basic_consume(queue, never_called, arguments=arguments, timeout=timeout)
        return str(answer.consumer_tag)

    def send(self, frames: bytes) -> None:
        """Send whole frames of this channel. What is sent on a closed one is lost."""
        self._wire.send(frames)


class WireFactory(TransportFactory):
    """Opens the transport of one connection, and keeps its wire.

    Args:
        tls: How to verify an `amqps://` broker.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._wire: Wire | None = None

    @property
    def wire(self) -> Wire:
        """The wire. Raises RuntimeError before the connection is open."""
        if self._wire is None:
            raise RuntimeError("the connection is not open yet")
        return self._wire

    def abort(self) -> None:
        """Drop the connection, if there is one."""
        if self._wire is not None:
            self._wire.abort()

    async def create(self, url: URL, **_: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Implements `TransportFactory`."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        wire = Wire(reader)
        try:
            host = url.host or ""
            transport, _protocol = await loop.create_connection(
                lambda: wire,
                sock=await dial(host, url.port or 0),
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
        except OSError as exc:
            raise AMQPConnectionError(*exc.args) from exc
        self._wire = wire
        return reader, _Writer(transport, wire, reader)
