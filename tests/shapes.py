"""Properties of jobs that are hard to read or to write again: each must cost nobody else anything."""

import struct

from tests.raw_amqp import field, nested, table, text
from worker.broker.properties import (
    APP_ID,
    CLUSTER_ID,
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    TIMESTAMP,
    TYPE,
    USER_ID,
    written,
)

DEFAULT_FRAME = 131_072
"""RabbitMQ's own `frame_max`."""


def _short(octets: bytes) -> bytes:
    return bytes((len(octets),)) + octets


def _headers(*fields: bytes, **_: object) -> bytes:
    return written({HEADERS: table(*fields)})


def _only(flag: int, value: bytes) -> bytes:
    return written({flag: value})


def _double(number: float) -> bytes:
    return b"d" + struct.pack(">d", number)


def _filling(room: int) -> bytes:
    """Headers that leave so many bytes of the frame free."""
    overhead = len(written({HEADERS: table(field(b"x-long", text(b"")))})) + 12 + 8
    return _headers(field(b"x-long", text(b"x" * (DEFAULT_FRAME - overhead - room))))


_EVERY_TYPE = (
    b"t\x01",
    b"b\x80",
    b"B\xff",
    b"s\x80\x00",
    b"u\xff\xff",
    b"I\x80\x00\x00\x00",
    b"i\xff\xff\xff\xff",
    b"l\x80" + b"\0" * 7,
    b"f" + struct.pack(">f", 1.5),
    _double(1754000000.123),
    b"D\x02\x00\x00\x01\x00",
    text(b"text"),
    b"x" + struct.pack(">I", 2) + b"\xff\x00",
    b"T" + struct.pack(">Q", 1_754_000_000),
    b"V",
    b"F" + table(field(b"a", b"V"), field(b"b", b"A" + table(b"V", text(b"x")))),
    b"A" + table(b"t\x00", _double(0.1), b"F" + table()),
)

SHAPES: dict[str, bytes] = {
    "no properties": b"\0\0",
    "an empty table": _headers(),
    "every type": _headers(*(field(b"x%d" % number, value) for number, value in enumerate(_EVERY_TYPE))),
    "every property": written(
        {
            CONTENT_TYPE: _short(b"text/plain"),
            HEADERS: table(field(b"x-other", text(b"kept"))),
            DELIVERY_MODE: b"\1",
            PRIORITY: b"\3",
            CORRELATION_ID: _short(b"c" * 255),
            REPLY_TO: _short(b"answers"),
            EXPIRATION: _short(b"3600000"),
            MESSAGE_ID: _short(b"m" * 255),
            TIMESTAMP: struct.pack(">Q", 1_754_000_000),
            TYPE: _short(b"job"),
            APP_ID: _short(b"upstream"),
        }
    ),
    # Depth.
    "tables 60 deep": _headers(field(b"x-deep", nested(60))),
    "tables 600 deep": _headers(field(b"x-deep", nested(600))),
    "tables 3,000 deep": _headers(field(b"x-deep", nested(3000))),
    "lists 3,000 deep": _headers(field(b"x-deep", nested(3000, lists=True))),
    "x-attempt 3,000 deep": _headers(field(b"x-attempt", nested(3000))),
    "x-death 3,000 deep": _headers(field(b"x-death", b"A" + table(nested(3000)))),
    # Size.
    "a frame but 600 bytes": _filling(600),
    "a frame but 60 bytes": _filling(60),
    "a whole frame": _filling(0),
    "a tracestate of a frame": _headers(
        field(b"traceparent", text(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        field(b"tracestate", text(b"k=v," * 32_000)),
    ),
    "40,000 headers": _headers(*(field(b"", b"V") for _ in range(40_000))),
    # Values.
    "a double of 1e300": _headers(field(b"x-number", _double(1e300))),
    "a double that is none": _headers(field(b"x-number", _double(float("nan")))),
    "an infinite double": _headers(field(b"x-number", _double(float("inf")))),
    "an exact double": _headers(field(b"x-number", _double(1754000000.123))),
    "a header beyond all time": _headers(field(b"x-when", b"T" + b"\xff" * 8)),
    "text that is not UTF-8": _headers(field(b"x-note", text(b"\xff\xfe"))),
    "a name that is not UTF-8": _headers(field(b"x-\xff", text(b"note"))),
    "a name of 255 bytes": _headers(field(b"n" * 255, b"V")),
    "a header without a name": _headers(field(b"", text(b"note"))),
    "one name twice": _headers(field(b"x-twin", text(b"1")), field(b"x-twin", text(b"2"))),
    "a type that RabbitMQ does not know": _headers(field(b"x-number", b"L" + b"\0" * 8)),
    "a type that nobody knows": _headers(field(b"x-number", b"?\0")),
    # Properties.
    "a timestamp in microseconds": _only(TIMESTAMP, struct.pack(">Q", 1_754_000_000_000_000)),
    "a timestamp beyond all time": _only(TIMESTAMP, b"\xff" * 8),
    "delivery mode 0": _only(DELIVERY_MODE, b"\0"),
    "delivery mode 3": _only(DELIVERY_MODE, b"\3"),
    "delivery mode 255": _only(DELIVERY_MODE, b"\xff"),
    "priority 0": _only(PRIORITY, b"\0"),
    "priority 255": _only(PRIORITY, b"\xff"),
    "a message id that is not UTF-8": _only(MESSAGE_ID, _short(b"\xff\xfe")),
    "a message id of nothing": _only(MESSAGE_ID, _short(b"")),
    "a content type that is not UTF-8": _only(CONTENT_TYPE, _short(b"\xff")),
    "an expiration": _only(EXPIRATION, _short(b"3600000")),
    "an expiration that is none": _only(EXPIRATION, _short(b"soon")),
    "a user id": _only(USER_ID, _short(b"guest")),
    "another's user id": _only(USER_ID, _short(b"root")),
    "a cluster id": _only(CLUSTER_ID, _short(b"here")),
    "direct reply-to": _only(REPLY_TO, _short(b"amq.rabbitmq.reply-to")),
    "direct reply-to of another": _only(REPLY_TO, _short(b"amq.rabbitmq.reply-to.g1h2")),
    # Names that mean something to RabbitMQ or to us.
    "CC that is no list": _headers(field(b"CC", text(b"elsewhere"))),
    "CC of nothing": _headers(field(b"CC", b"A" + table())),
    "CCFS-Tag": _headers(field(b"CCFS-Tag", text(b"kept"))),
    "x-death that is text": _headers(field(b"x-death", text(b"odd"))),
    "x-death of numbers": _headers(field(b"x-death", b"A" + table(b"b\1", b"b\2"))),
    "x-death of empty tables": _headers(field(b"x-death", b"A" + table(b"F" + table()))),
    "x-delivery-count that is text": _headers(field(b"x-delivery-count", text(b"many"))),
    "x-attempt that is text": _headers(field(b"x-attempt", text(b"many"))),
    "x-attempt twice": _headers(field(b"x-attempt", b"b\2"), field(b"x-attempt", b"b\1")),
    "x-publish-id of another": _headers(field(b"x-publish-id", text(b"odd"))),
    "x-dead-body-bytes of another": _headers(
        field(b"x-dead-body-bytes", b"l" + b"\x7f" * 8), field(b"x-dead-body-sha256", text(b"odd"))
    ),
    "traceparent that is a list": _headers(field(b"traceparent", b"A" + table(b"V"))),
}
"""By name: property lists as they stand on the wire, flags first."""
