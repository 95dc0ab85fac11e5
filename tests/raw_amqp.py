"""A client that writes and reads properties as bytes, as one in C may: whatever a publisher can send."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.broker import frames
from worker.broker.connection import AmqpConnection, open_channel, open_connection
from worker.broker.properties import Properties
from worker.broker.publisher import open_publisher
from worker.errors import NotConfirmedError, SessionLostError

_LENGTH = struct.Struct(">I")


@asynccontextmanager
async def connecting(url: str) -> AsyncIterator[AmqpConnection]:
    async with open_connection(url, name="a publisher", heartbeat=10, timeout=10, tls=None) as opened:
        yield opened


async def put_raw(url: str, key: str, properties: bytes, body: bytes, *, exchange: str = "") -> bool:
    """Publish; False if RabbitMQ refuses it, which may cost the connection."""
    async with connecting(url) as opened, open_publisher(opened, timeout=30) as publisher:
        try:
            await publisher.to_exchange(exchange, frames.Message(body, Properties(properties)), key)
        except (NotConfirmedError, SessionLostError):
            return False
    return True


async def take_raw(url: str, queue: str) -> frames.Message:
    """Wait for the next message of a queue and take it away."""
    arrived: asyncio.Future[tuple[int, frames.Message]] = asyncio.get_running_loop().create_future()

    def take(method: bytes, message: frames.Message) -> None:
        if not arrived.done():
            arrived.set_result((frames.read_deliver(method).tag, message))

    async with connecting(url) as opened, open_channel(opened) as channel:
        await channel.set_qos(prefetch_count=1)
        lane = await opened.lane(channel)
        lane.divert(frames.Assembly(frames.DELIVER, take).take)
        await lane.consume(queue)
        tag, message = await arrived
        lane.send(frames.ack(lane.number, tag))
        return message


def table(*fields: bytes) -> bytes:
    """A field table, behind its length."""
    content = b"".join(fields)
    return _LENGTH.pack(len(content)) + content


def field(name: bytes, value: bytes) -> bytes:
    """A field of a table; the value begins with its type."""
    return bytes((len(name),)) + name + value


def text(octets: bytes) -> bytes:
    """A value that is a long string."""
    return b"S" + _LENGTH.pack(len(octets)) + octets


def nested(depth: int, *, lists: bool = False) -> bytes:
    """A value: that many tables or lists within each other."""
    value = b"V"
    for _ in range(depth):
        value = b"A" + table(value) if lists else b"F" + table(field(b"a", value))
    return value
