"""The AMQP 0-9-1 frames that every job needs, read and written by hand. pamqp does all others. Pure.

Layouts are those of the AMQP 0-9-1 specification (sections 2.3.5 and 4.2), numbers of classes and methods
those of its amqp0-9-1.xml; `basic.nack` is RabbitMQ's ("Consumer Acknowledgements and Publisher Confirms").
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from schemas import MAX_BODY_BYTES
from worker.broker.properties import Properties, short
from worker.core.job import Cut

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
"""Types of frames."""
FRAME_HEAD = struct.Struct(">BHI")
"""Type, channel, and size of the payload; a byte follows the payload."""
FRAME_END = b"\xce"
HEARTBEAT_FRAME = FRAME_HEAD.pack(HEARTBEAT, 0, 0) + FRAME_END

DELIVER = struct.pack(">HH", 60, 60)
"""How the payload of a method's frame begins, here and below: its class and its number."""
RETURN = struct.pack(">HH", 60, 50)
ACK = struct.pack(">HH", 60, 80)
NACK = struct.pack(">HH", 60, 120)
GET_OK = struct.pack(">HH", 60, 71)
GET_EMPTY = struct.pack(">HH", 60, 72)
PUBLISH = struct.pack(">HH", 60, 40)
_GET = struct.pack(">HH", 60, 70)
_REJECT = struct.pack(">HH", 60, 90)

_RESERVED = b"\0\0"
_METHOD_BYTES = 4
_TAG_AND_BITS = struct.Struct(">QB")
_CONTENT_HEAD = struct.Struct(">HHQ")
"""Class, weight (always 0), and size of the body; the properties follow."""
_BASIC = 60
_MANDATORY = _MULTIPLE = _REDELIVERED = _REQUEUE_REJECTED = 1
_REQUEUE_NACKED = 2
_WITH_ACK = 0
_FRAME_OVERHEAD = FRAME_HEAD.size + len(FRAME_END)
_UNBOUNDED_STEP = 128 * 1024
"""Bytes of our frames where the broker sets no bound (`frame_max` 0): RabbitMQ's default bound."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message, received or to be published.

    Attributes:
        body: Its body; of a received one larger than a job may have, in most queues only the beginning.
        properties: Its properties, headers included.
        cut: What is known of a body of which only the beginning was kept; None when it is whole.
    """

    body: bytes
    properties: Properties
    cut: Cut | None = None


class Receipt(NamedTuple):
    """How a message was delivered.

    Attributes:
        tag: The delivery tag, by which it is settled on its channel.
        redelivered: Whether the broker had delivered it before.
    """

    tag: int
    redelivered: bool


class Confirm(NamedTuple):
    """The broker's ack or nack of one message, or with `multiple` of all up to it."""

    tag: int
    multiple: bool


class _Body:
    """The body of a message while it is received. Of a large one the beginning is kept, and the whole hashed.

    RabbitMQ takes messages of 16 MiB, before version 4 of 128 MiB. A prefetch full of these would not fit
    into memory.
    """

    def __init__(self, size: int, room: int) -> None:
        self._size = size
        self._pieces: list[bytes] = []
        self._room = room
        self._digest = hashlib.sha256() if size > room else None
        self.missing = size

    def add(self, piece: bytes) -> None:
        self.missing -= len(piece)
        if self._digest is None:
            self._pieces.append(piece)
            return
        self._digest.update(piece)
        if self._room:
            self._pieces.append(piece[: self._room])
            self._room -= len(self._pieces[-1])

    def message(self, properties: Properties) -> Message:
        cut = None if self._digest is None else Cut(self._size, self._digest.hexdigest())
        return Message(b"".join(self._pieces), properties, cut)


class Assembly:
    """Assembles messages from the frames of a channel: a method, a header, and pieces of the body.

    Args:
        begins: How the payload of the method begins, such as `DELIVER`.
        complete: Called with the payload of each method and its message.
        whole: Bytes of a body above which only the beginning is kept.
    """

    def __init__(
        self, begins: bytes, complete: Callable[[bytes, Message], None], *, whole: int = MAX_BODY_BYTES
    ) -> None:
        self._begins = begins
        self._complete = complete
        self._whole = whole
        self._method = b""
        self._properties = Properties(b"\0\0")
        self._body = _Body(0, whole)

    def take(self, kind: int, payload: bytes) -> bool:
        """Take a frame of the channel; False when it belongs to another method."""
        if kind == METHOD:
            if not payload.startswith(self._begins):
                return False
            self._method = payload
            return True
        # The content of a method that is not ours, as of a basic.get-ok on a channel that consumes.
        if not self._method:
            return False
        if kind == HEADER:
            _, _, size = _CONTENT_HEAD.unpack_from(payload)
            self._properties, self._body = Properties(payload[_CONTENT_HEAD.size :]), _Body(size, self._whole)
        else:
            self._body.add(payload)
        # A body of no bytes has no frame: the header ends the message.
        if self._body.missing <= 0:
            method, self._method = self._method, b""
            self._complete(method, self._body.message(self._properties))
        return True


def read_deliver(method: bytes) -> Receipt:
    """Read `basic.deliver`."""
    # The consumer's tag, a short string, stands first.
    tag, bits = _TAG_AND_BITS.unpack_from(method, _METHOD_BYTES + 1 + method[_METHOD_BYTES])
    return Receipt(tag, bool(bits & _REDELIVERED))


def read_get_ok(method: bytes) -> Receipt:
    """Read `basic.get-ok`."""
    tag, bits = _TAG_AND_BITS.unpack_from(method, _METHOD_BYTES)
    return Receipt(tag, bool(bits & _REDELIVERED))


def read_confirm(method: bytes) -> Confirm:
    """Read `basic.ack` or `basic.nack`."""
    tag, bits = _TAG_AND_BITS.unpack_from(method, _METHOD_BYTES)
    return Confirm(tag, bool(bits & _MULTIPLE))


def ack(channel: int, tag: int) -> bytes:
    """Write `basic.ack` of one message."""
    return _frame(METHOD, channel, ACK + _TAG_AND_BITS.pack(tag, 0))


def nack(channel: int, tag: int) -> bytes:
    """Write `basic.nack`: the message returns to its queue."""
    return _frame(METHOD, channel, NACK + _TAG_AND_BITS.pack(tag, _REQUEUE_NACKED))


def reject(channel: int, tag: int) -> bytes:
    """Write `basic.reject`: the message returns to its queue."""
    return _frame(METHOD, channel, _REJECT + _TAG_AND_BITS.pack(tag, _REQUEUE_REJECTED))


def get(channel: int, queue: str) -> bytes:
    """Write `basic.get`: ask for the next message of a queue, which is then to be settled."""
    return _frame(METHOD, channel, _GET + _RESERVED + short(queue) + _WITH_ACK.to_bytes(1, "big"))


def publish(channel: int, message: Message, *, exchange: str, routing_key: str, frame_max: int) -> bytes:
    """Write `basic.publish`, mandatory, and the content that follows it.

    Args:
        channel: The channel's number.
        message: The message; see `fits` for its properties.
        exchange: Where to.
        routing_key: At most 255 bytes, as the exchange's name.
        frame_max: Bytes that a frame may have, as negotiated; 0 is no bound.

    Raises:
        ValueError: A name is too long, or the properties do not fit into a frame.
    """
    body, properties = message.body, message.properties.raw
    if not fits(message.properties, frame_max):
        raise ValueError(f"{len(properties)} bytes of properties do not fit into a frame of {frame_max}")
    method = b"".join(
        (PUBLISH, _RESERVED, short(exchange), short(routing_key), _MANDATORY.to_bytes(1, "big"))
    )
    header = _CONTENT_HEAD.pack(_BASIC, 0, len(body)) + properties
    step = (frame_max or _UNBOUNDED_STEP) - _FRAME_OVERHEAD
    bodies = [_frame(BODY, channel, body[start : start + step]) for start in range(0, len(body), step)]
    return b"".join((_frame(METHOD, channel, method), _frame(HEADER, channel, header), *bodies))


def fits(properties: Properties, frame_max: int) -> bool:
    """Whether a message may have these properties: its header must fit into one frame."""
    return not frame_max or _FRAME_OVERHEAD + _CONTENT_HEAD.size + len(properties.raw) <= frame_max


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return FRAME_HEAD.pack(kind, channel, len(payload)) + payload + FRAME_END
