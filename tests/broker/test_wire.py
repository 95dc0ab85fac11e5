"""The wire sorts whole frames, however the bytes come, and leaves to aiormq what is not taken."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pamqp.frame
import pytest
from pamqp import commands as spec
from pamqp.heartbeat import Heartbeat
from yarl import URL

from devkit.run.broker import Broker
from tests.amqp import outside_channel, take
from tests.sockets import addresses, black_hole
from worker.broker import frames, wire
from worker.broker.connection import open_channel, open_connection
from worker.broker.properties import Properties
from worker.broker.wire import Lane, Wire

if TYPE_CHECKING:
    import aiormq

TAKEN, LEFT = 3, 4
NOTHING = b"\0\0"
"""No properties."""


@dataclass
class Channel:
    """What the wire wants of aiormq's channel."""

    number: int
    closing: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_closed = False

    @property
    def connection(self) -> "Channel":
        return self

    @property
    def connection_tune(self) -> spec.Connection.Tune:
        return spec.Connection.Tune(frame_max=4096)


class Transport(asyncio.Transport):
    """Remembers what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: asyncio.Queue[bytes] = asyncio.Queue()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.put_nowait(bytes(data))

    def is_closing(self) -> bool:
        return False


@dataclass
class Open:
    wire: Wire
    reader: asyncio.StreamReader
    transport: Transport
    taken: list[tuple[int, bytes]] = field(default_factory=list)

    def take(self, kind: int, payload: bytes) -> bool:
        """Take what begins like an ack."""
        mine = payload.startswith(frames.ACK)
        if mine:
            self.taken.append((kind, payload))
        return mine

    def lane(self, channel: Channel) -> Lane:
        lane = self.wire.lane(cast("aiormq.Channel", channel))
        lane.divert(self.take)
        return lane

    async def left(self) -> bytes:
        """What aiormq gets to read."""
        self.reader.feed_eof()
        return await self.reader.read()


@pytest.fixture
async def opened() -> Open:
    reader = asyncio.StreamReader()
    opened = Open(Wire(reader), reader, Transport())
    opened.wire.connection_made(opened.transport)
    return opened


@pytest.mark.parametrize("step", [1, 2, 3, 7, 20, 1000])
async def test_frames_are_sorted_however_they_come(opened: Open, step: int) -> None:
    opened.lane(Channel(TAKEN))
    qos = pamqp.frame.marshal(spec.Basic.QosOk(), TAKEN)
    heartbeat = Heartbeat().marshal()
    data = frames.ack(TAKEN, 1) + qos + frames.ack(LEFT, 2) + frames.ack(TAKEN, 3) + heartbeat

    for start in range(0, len(data), step):
        opened.wire.data_received(data[start : start + step])

    assert [frames.read_confirm(payload).tag for _, payload in opened.taken] == [1, 3]
    assert await opened.left() == qos + frames.ack(LEFT, 2) + heartbeat


async def test_a_closed_channel_is_left_again(opened: Open) -> None:
    """Its number may come to another channel."""
    channel = Channel(TAKEN)
    opened.lane(channel)

    left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    channel.closing.add_done_callback(lambda _: left.set_result(None))
    channel.closing.set_result(None)
    await left
    opened.wire.data_received(frames.ack(TAKEN, 1))

    assert not opened.taken
    assert await opened.left() == frames.ack(TAKEN, 1)


async def test_what_is_raised_over_a_frame_does_not_leave_the_wire(opened: Open) -> None:
    """asyncio would close the connection, and the broker send the frame again in the next one."""

    def fail(_: int, __: bytes) -> bool:
        raise RecursionError("nested too deep")

    opened.wire.divert(cast("aiormq.Channel", Channel(TAKEN)), fail)
    opened.lane(Channel(LEFT))

    opened.wire.data_received(frames.ack(TAKEN, 1) + frames.ack(LEFT, 2))

    assert [frames.read_confirm(payload).tag for _, payload in opened.taken] == [2]
    assert await opened.left() == b""


@pytest.mark.parametrize("step", [4096, 300_000, 10_000_000])
@pytest.mark.parametrize("channel", [TAKEN, LEFT])
async def test_a_frame_without_bounds_is_taken_in_pieces(opened: Open, channel: int, step: int) -> None:
    """So that none of it has to lie here until it is whole."""
    pieces: list[bytes] = []

    def take(_: int, payload: bytes) -> bool:
        pieces.append(payload)
        return True

    opened.wire.divert(cast("aiormq.Channel", Channel(TAKEN)), take)
    body = b"x" * (3 << 20)
    data = frames.FRAME_HEAD.pack(frames.BODY, channel, len(body)) + body + frames.FRAME_END

    for start in range(0, len(data), step):
        opened.wire.data_received(data[start : start + step])

    if channel == TAKEN:
        assert b"".join(pieces) == body
        assert all(pieces)
    else:
        assert b"".join(payloads(await opened.left())) == body


def payloads(data: bytes) -> list[bytes]:
    """The payloads of whole frames."""
    found = []
    while data:
        _, _, size = frames.FRAME_HEAD.unpack_from(data)
        found.append(data[frames.FRAME_HEAD.size : frames.FRAME_HEAD.size + size])
        data = data[frames.FRAME_HEAD.size + size + 1 :]
    return found


async def test_a_peer_that_does_not_speak_amqp_is_left_to_aiormq(opened: Open) -> None:
    for line in (b"HTTP/1.1 400 Bad Request\r\n", b"\r\n"):
        opened.wire.data_received(line)

    assert await opened.left() == b"HTTP/1.1 400 Bad Request\r\n\r\n"


async def test_aiormq_hears_of_life_while_only_jobs_flow(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ sends no heartbeats then, and aiormq would take the line for dead."""
    opened.lane(Channel(TAKEN))
    loop = asyncio.get_running_loop()
    now = loop.time()
    for seconds in (0.5, 1.5, 1.6, 3.0):
        monkeypatch.setattr(loop, "time", lambda seconds=seconds: now + seconds)
        opened.wire.data_received(frames.ack(TAKEN, 1))
    monkeypatch.undo()

    assert await opened.left() == Heartbeat().marshal() * 2


async def test_what_is_sent_together_is_one_write_in_order(opened: Open) -> None:
    lane = opened.lane(Channel(TAKEN))

    lane.send(b"one")
    lane.send(b"two")

    assert await opened.transport.written.get() == b"onetwo"
    lane.send(b"three")
    assert await opened.transport.written.get() == b"three"
    assert opened.transport.written.empty()


async def test_aiormq_closes_behind_all_that_was_sent(
    rabbitmq: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for its turn when a connection is closed still gets through."""
    monkeypatch.setattr(wire, "_WRITE_INTERVAL", 3600)
    queue = f"{prefix}.sent"
    async with (
        open_connection(rabbitmq.url, name="test", heartbeat=10, timeout=10, tls=None) as opened,
        open_channel(opened) as channel,
    ):
        lane = await opened.lane(channel)
        for _ in range(2):
            await channel.declare_queue(queue)
            lane.send(publish_to(queue, lane))

    async with outside_channel(rabbitmq.url) as outside:
        for _ in range(2):
            assert (await take(outside, queue)).body == b"sent"
        await outside.queue_delete(queue)


def publish_to(queue: str, lane: Lane) -> bytes:
    return frames.publish(
        lane.number,
        frames.Message(b"sent", Properties(NOTHING)),
        exchange="",
        routing_key=queue,
        frame_max=lane.frame_max,
    )


async def test_a_brokers_name_is_tried_by_all_its_addresses(
    rabbitmq: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is black-holed, which alone would take the whole connect timeout."""
    url = URL(rabbitmq.url)
    with black_hole() as nowhere:
        look_up = addresses(nowhere, url.port or 0)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        named = str(url.with_host("broker.example"))
        async with open_connection(named, name="test", heartbeat=10, timeout=30, tls=None) as opened:
            assert not opened.closing.done()
