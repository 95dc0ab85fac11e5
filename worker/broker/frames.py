"""AMQP 0-9-1 frames that every job needs, read and written by hand; pamqp does all others. Pure.

Layouts are those of the AMQP 0-9-1 specification (sections 2.3.5 and 4.2), numbers of classes and methods
those of its amqp0-9-1.xml; `basic.nack` is RabbitMQ's ("Consumer Acknowledgements and Publisher Confirms").
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from pamqp.commands import Basic
from pamqp.header import ContentHeader

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
"""Types of frames."""
FRAME_HEAD = struct.Struct(">BHI")
"""Type, channel, and size of the payload; a byte follows the payload."""
FRAME_END = b"\xce"
HEARTBEAT_FRAME = FRAME_HEAD.pack(HEARTBEAT, 0, 0) + FRAME_END

DELIVER = struct.pack(">HH", 60, 60)
"""How the payload of a method's frame begins; the others likewise."""
RETURN = struct.pack(">HH", 60, 50)
ACK = struct.pack(">HH", 60, 80)
NACK = struct.pack(">HH", 60, 120)
_PUBLISH = struct.pack(">HHH", 60, 40, 0)
_REJECT = struct.pack(">HH", 60, 90)

_METHOD_BYTES = 4
_TAG_AND_BITS = struct.Struct(">QB")
_MANDATORY = _MULTIPLE = _REQUEUE_REJECTED = 1
_REQUEUE_NACKED = 2
_MAX_SHORT_STRING = 255
_FRAME_OVERHEAD = FRAME_HEAD.size + len(FRAME_END)


class Delivered(NamedTuple):
    """A message as it was delivered."""

    tag: int
    redelivered: bool
    properties: Basic.Properties
    body: bytes


class Confirm(NamedTuple):
    """The broker's word on one message, or with `multiple` on all up to it."""

    tag: int
    multiple: bool


class Assembly:
    """Puts methods together with the contents that follow them, frame by frame.

    Args:
        begins: How the methods begin that are followed here.
        complete: Is given the method's payload, the properties and the body of each.
    """

    def __init__(self, begins: bytes, complete: Callable[[bytes, Basic.Properties, bytes], None]) -> None:
        self._begins = begins
        self._complete = complete
        self._method = b""
        self._header = ContentHeader()
        self._body: list[bytes] = []
        self._missing = 0

    def take(self, kind: int, payload: bytes) -> bool:
        """Take in a frame of the channel; False if it belongs to nothing that is followed here."""
        if kind == METHOD:
            if not payload.startswith(self._begins):
                return False
            self._method = payload
            return True
        if not self._method:
            return False
        if kind == HEADER:
            self._header = ContentHeader()
            self._header.unmarshal(payload)
            self._body, self._missing = [], self._header.body_size
        else:
            self._body.append(payload)
            self._missing -= len(payload)
        if self._missing <= 0:
            method, self._method = self._method, b""
            self._complete(method, self._header.properties, b"".join(self._body))
        return True


def read_delivery(method: bytes, properties: Basic.Properties, body: bytes) -> Delivered:
    """Read `basic.deliver`."""
    tag, bits = _TAG_AND_BITS.unpack_from(method, _METHOD_BYTES + 1 + method[_METHOD_BYTES])
    return Delivered(tag, bool(bits & 1), properties, body)


def read_confirm(method: bytes) -> Confirm:
    """Read `basic.ack` or `basic.nack`."""
    tag, bits = _TAG_AND_BITS.unpack_from(method, _METHOD_BYTES)
    return Confirm(tag, bool(bits & _MULTIPLE))


def ack(channel: int, tag: int) -> bytes:
    """Write `basic.ack` of one message."""
    return _frame(METHOD, channel, ACK + _TAG_AND_BITS.pack(tag, 0))


def nack(channel: int, tag: int) -> bytes:
    """Write `basic.nack` of one message, which returns to its queue."""
    return _frame(METHOD, channel, NACK + _TAG_AND_BITS.pack(tag, _REQUEUE_NACKED))


def reject(channel: int, tag: int) -> bytes:
    """Write `basic.reject` of a message, which returns to its queue."""
    return _frame(METHOD, channel, _REJECT + _TAG_AND_BITS.pack(tag, _REQUEUE_REJECTED))


def publish(
    channel: int,
    *,
    exchange: str,
    routing_key: str,
    properties: Basic.Properties,
    body: bytes,
    frame_max: int,
) -> bytes:
    """Write `basic.publish`, mandatory, and the content that follows it.

    Args:
        channel: The channel's number.
        exchange: Where to.
        routing_key: At most 255 bytes, as the exchange's name.
        properties: The message's properties.
        body: Its body.
        frame_max: Bytes that a frame may have, as negotiated.

    Raises:
        ValueError: A name is too long, or a property cannot be written.
    """
    method = b"".join(
        (_PUBLISH, _short_string(exchange), _short_string(routing_key), _MANDATORY.to_bytes(1, "big"))
    )
    header = ContentHeader(body_size=len(body), properties=properties).marshal()
    step = frame_max - _FRAME_OVERHEAD
    bodies = [_frame(BODY, channel, body[start : start + step]) for start in range(0, len(body), step)]
    return b"".join((_frame(METHOD, channel, method), _frame(HEADER, channel, header), *bodies))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return FRAME_HEAD.pack(kind, channel, len(payload)) + payload + FRAME_END


def _short_string(text: str) -> bytes:
    octets = text.encode()
    if len(octets) > _MAX_SHORT_STRING:
        raise ValueError(f"{text!r} is longer than the {_MAX_SHORT_STRING} bytes that AMQP allows")
    return bytes((len(octets),)) + octets
