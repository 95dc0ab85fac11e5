"""Reads the field tables of AMQP 0-9-1, whatever their bytes are. Pure.

Layout: AMQP 0-9-1, section 4.2.5.5, with the types as RabbitMQ has them ("AMQP 0-9-1 Errata"). Libraries
raise in the middle of a table: one that recurses for a deep one, another for a date beyond the calendar.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

MAX_DEPTH = 64
"""Tables and lists that may be nested in each other. RabbitMQ takes thousands. Libraries that recurse, such
as pamqp, fail above some 300."""

Value = str | int | datetime
"""Types of values that can be written."""

_ARRAY, _TABLE = ord("A"), ord("F")
_TEXTS = frozenset(b"Sx")
_LENGTH = struct.Struct(">I")
_TIMESTAMP = struct.Struct(">Q")
_LONG = struct.Struct(">q")
_DECIMAL = struct.Struct(">BI")
_NUMBERS = {
    ord(kind): struct.Struct(f">{code}")
    for kind, code in {
        "t": "?",
        "b": "b",
        "B": "B",
        "s": "h",
        "u": "H",
        "I": "i",
        "i": "I",
        "l": "q",
        "L": "q",
        "f": "f",
        "d": "d",
    }.items()
}
_NOTHING = frozenset((ord("V"), 0))
"""A zero byte counts as the type of nothing, as in pamqp: it was seen in the wild."""
_SIZES = (
    {kind: number.size for kind, number in _NUMBERS.items()}
    | dict.fromkeys(_NOTHING, 0)
    | {ord("T"): _TIMESTAMP.size, ord("D"): _DECIMAL.size}
)
_SIZED = _TEXTS | {_ARRAY, _TABLE}
_LAST_SECOND = 0xFFFF_FFFF


class UnreadableError(ValueError):
    """The bytes are no property list or table; the text says why, as one line."""


class Field(NamedTuple):
    """Where a field lies in its table.

    Attributes:
        name: Its name, as bytes.
        kind: The type of its value.
        start: Where the field begins.
        value: Where its value begins, after the type.
        end: Where the next field begins.
    """

    name: bytes
    kind: int
    start: int
    value: int
    end: int


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """Find the fields of the table between two places of `data`, after its length. Steps over nested ones.

    Raises:
        UnreadableError: The table is not whole, or has a value of unknown type.
    """
    while start < end:
        named = start + 1 + data[start]
        yield (field := _field(data, start, named, end))
        start = field.end


def check_nested(data: bytes, found: list[Field]) -> None:
    """Check that what is nested in some fields can be read.

    Raises:
        UnreadableError: Something is not whole, has an unknown type, or is nested too deep.
    """
    waiting = [(field, 1) for field in found if field.kind in (_ARRAY, _TABLE)]
    while waiting:
        field, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise UnreadableError(f"tables or lists are nested more than {MAX_DEPTH} deep")
        waiting += [(inner, depth + 1) for inner in _inner(data, field) if inner.kind in (_ARRAY, _TABLE)]


def read(data: bytes, field: Field) -> Any:  # noqa: ANN401 - whatever a publisher put there
    """Read the value of a field that `check_nested` has checked.

    A byte array, or text that is not UTF-8, is given as bytes; a timestamp that no calendar has as a number.
    """
    if field.kind == _TABLE:
        return {name_of(inner): read(data, inner) for inner in _inner(data, field)}
    if field.kind == _ARRAY:
        return [read(data, inner) for inner in _inner(data, field)]
    if field.kind in _TEXTS:
        octets = data[field.value + _LENGTH.size : field.end]
        return octets if field.kind == ord("x") else _text(octets)
    return _plain(data, field)


def name_of(field: Field) -> str:
    """The name of a field as text."""
    return field.name.decode(errors="backslashreplace")


def moment(seconds: int) -> datetime | None:
    """The moment that a timestamp means; None when no calendar has it.

    Seconds beyond the year 2106 are read as milliseconds, as pamqp does: some publishers write those.
    """
    try:
        return datetime.fromtimestamp(seconds / 1000 if seconds > _LAST_SECOND else seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def write(name: str, value: Value) -> bytes:
    """Write a field: text, a number of 64 bits, or a moment."""
    if isinstance(value, str):
        octets = value.encode()
        written = b"S" + _LENGTH.pack(len(octets)) + octets
    elif isinstance(value, datetime):
        written = b"T" + _TIMESTAMP.pack(int(value.timestamp()))
    else:
        written = b"l" + _LONG.pack(value)
    return bytes((len(name),)) + name.encode() + written


def _inner(data: bytes, field: Field) -> Iterator[Field]:
    start = field.value + _LENGTH.size
    if field.kind == _TABLE:
        yield from fields(data, start, field.end)
        return
    while start < field.end:
        yield (inner := _field(data, start, start, field.end))
        start = inner.end


def _field(data: bytes, start: int, named: int, end: int) -> Field:
    """Read the field at `start`, whose type stands at `named`."""
    if named >= end:
        raise UnreadableError("a field is cut off")
    kind, value = data[named], named + 1
    if kind in _SIZED:
        if value + _LENGTH.size > end:
            raise UnreadableError("the length of a field is cut off")
        stop = value + _LENGTH.size + _LENGTH.unpack_from(data, value)[0]
    elif (size := _SIZES.get(kind)) is not None:
        stop = value + size
    else:
        raise UnreadableError(f"a field has the unknown type {kind:#04x}")
    if stop > end:
        raise UnreadableError("a field is longer than what it lies in")
    return Field(data[start + 1 : named], kind, start, value, stop)


def _plain(data: bytes, field: Field) -> bool | int | float | Decimal | datetime | None:
    if field.kind == ord("D"):
        places, digits = _DECIMAL.unpack_from(data, field.value)
        return Decimal(digits).scaleb(-places)
    if field.kind == ord("T"):
        (seconds,) = _TIMESTAMP.unpack_from(data, field.value)
        return moment(seconds) or seconds
    number = _NUMBERS.get(field.kind)
    return None if number is None else number.unpack_from(data, field.value)[0]


def _text(octets: bytes) -> str | bytes:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets
