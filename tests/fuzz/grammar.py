"""Draws the properties of messages by the grammar of AMQP 0-9-1, near every bound that it or anybody has."""

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.raw_amqp import field, nested, table, text
from worker.broker.properties import (
    DELIVERY_MODE,
    HEADERS,
    PRIORITY,
    TIMESTAMP,
    written,
)

FRAME_MAX = 4096
"""The smallest that AMQP allows: what is near it is cheap to make."""

SHORTS = (0x8000, 0x4000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010, 0x0008, 0x0004)
"""The flags of all properties that are short strings."""

NAMES = (
    b"x-attempt",
    b"traceparent",
    b"tracestate",
    b"x-publish-id",
    b"x-headers-dropped",
    b"x-dead-reason",
    b"x-dead-detail",
    b"x-dead-since",
    b"x-dead-body-bytes",
    b"x-dead-body-sha256",
    b"x-death",
    b"x-first-death-queue",
    b"x-delivery-count",
    b"CC",
    b"BCC",
    b"CCFS-Tag",
    b"x-death-row",
)
"""Names that mean something to somebody, and two that only look so."""


@dataclass(frozen=True)
class Drawn:
    """A message's properties, and what they were made of.

    Attributes:
        raw: as they stand on the wire.
        values: by flag, all but the headers.
        headers: each field; None when there is no table.
        depth: how deep the deepest is nested.
        mangled: whether something was done to `raw` afterwards.
    """

    raw: bytes
    values: dict[int, bytes]
    headers: list[bytes] | None
    depth: int
    mangled: bool


@dataclass(frozen=True)
class _Value:
    octets: bytes
    depth: int = 0


def _packed(kind: bytes, layout: str, *bounds: float) -> st.SearchStrategy[_Value]:
    return st.sampled_from(bounds).map(lambda number: _Value(kind + struct.pack(f">{layout}", number)))


def _whole(kind: bytes, layout: str, bits: int, *, signed: bool) -> st.SearchStrategy[_Value]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return (st.sampled_from([low, -1 if signed else 1, 0, 1, 2, high]) | st.integers(low, high)).map(
        lambda number: _Value(kind + struct.pack(f">{layout}", number))
    )


_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_texts = st.sampled_from([b"", b"k=v", b"\xff\xfe", _TRACE]) | st.binary(max_size=40)

_plain: st.SearchStrategy[_Value] = st.one_of(
    st.binary(min_size=1, max_size=1).map(lambda octet: _Value(b"t" + octet)),
    _whole(b"b", "b", 8, signed=True),
    _whole(b"B", "B", 8, signed=False),
    _whole(b"s", "h", 16, signed=True),
    _whole(b"u", "H", 16, signed=False),
    _whole(b"I", "i", 32, signed=True),
    _whole(b"i", "I", 32, signed=False),
    _whole(b"l", "q", 64, signed=True),
    _whole(b"L", "q", 64, signed=True),
    _whole(b"T", "Q", 64, signed=False),
    _packed(b"f", "f", 0.0, 1.5, float("inf"), float("nan")),
    _packed(b"d", "d", 1e300, 5e-324, 1754000000.123, float("-inf"), float("nan")),
    st.binary(min_size=5, max_size=5).map(lambda octets: _Value(b"D" + octets)),
    _texts.map(lambda octets: _Value(text(octets))),
    st.binary(max_size=40).map(lambda octets: _Value(b"x" + struct.pack(">I", len(octets)) + octets)),
    st.sampled_from([_Value(b"V"), _Value(b"\0")]),
)
_towers = st.builds(
    lambda depth, lists: _Value(nested(depth, lists=lists), depth),
    st.sampled_from([1, 2, 62, 63, 64, 65, 66, 200]),
    st.booleans(),
)
_names = st.sampled_from(NAMES) | st.binary(max_size=12) | st.sampled_from([b"", b"n" * 255])


def _lists(values: st.SearchStrategy[_Value]) -> st.SearchStrategy[_Value]:
    return st.lists(values, max_size=3).map(
        lambda found: _Value(
            b"A" + table(*(value.octets for value in found)),
            1 + max((value.depth for value in found), default=0),
        )
    )


def _tables(values: st.SearchStrategy[_Value]) -> st.SearchStrategy[_Value]:
    return st.lists(st.tuples(_names, values), max_size=3).map(
        lambda found: _Value(
            b"F" + table(*(field(name, value.octets) for name, value in found)),
            1 + max((value.depth for _, value in found), default=0),
        )
    )


_values = st.recursive(_plain, lambda inner: _lists(inner) | _tables(inner), max_leaves=6) | _towers
_fields = st.tuples(_names, _values)
_shorts = (
    st.sampled_from([b"", b"guest", b"soon", b"60000", b"\xff", b"m" * 255])
    | st.binary(max_size=20)
    | st.text(max_size=8).map(str.encode)
).map(lambda octets: bytes((len(octets),)) + octets)
_moments = (
    st.sampled_from([0, 1_754_000_000, 2**32, 1_754_000_000_000_000, 2**63, 2**64 - 1])
    | st.integers(0, 2**64 - 1)
).map(lambda seconds: struct.pack(">Q", seconds))
_octets = st.binary(min_size=1, max_size=1)


_traces: st.SearchStrategy[list[bytes]] = st.just([]) | st.sampled_from([1, 128, 129, 600]).map(
    lambda members: [field(b"traceparent", text(_TRACE)), field(b"tracestate", text(b"k=v," * members))]
)


@st.composite
def properties(draw: st.DrawFn) -> Drawn:
    """Draw the properties of a message."""
    values = {flag: draw(_shorts) for flag in draw(st.sets(st.sampled_from(SHORTS), max_size=5))}
    for flag, strategy in ((DELIVERY_MODE, _octets), (PRIORITY, _octets), (TIMESTAMP, _moments)):
        if draw(st.booleans()):
            values[flag] = draw(strategy)
    found = draw(st.none() | st.lists(_fields, max_size=6))
    if found is None:
        raw, headers = written(values), None
    else:
        headers = [field(name, value.octets) for name, value in found] + draw(_traces)
        headers += draw(_fillers(len(written({**values, HEADERS: table(*headers)}))))
        raw = written({**values, HEADERS: table(*headers)})
    mangled = draw(_mangled(raw)) if draw(st.integers(0, 5)) == 0 else raw
    depth = max((value.depth for _, value in found or ()), default=0)
    return Drawn(mangled, values, headers, depth, mangled != raw)


def _fillers(size: int) -> st.SearchStrategy[list[bytes]]:
    """A header that makes the frame as full as it may be, or nearly so; most often none."""
    overhead = size + len(field(b"x-long", text(b""))) + 12 + 8
    room = FRAME_MAX - overhead
    if room <= 0:
        return st.just([])
    left = st.integers(0, min(600, room))
    return st.just([]) | left.map(lambda free: [field(b"x-long", text(b"x" * (room - free)))])


@st.composite
def _mangled(draw: st.DrawFn, raw: bytes) -> bytes:
    """Some octets other than they were, or not all of them."""
    found = bytearray(raw)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(found)))
        found[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(found)
