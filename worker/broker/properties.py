"""The properties of a message, kept as the bytes in which they came. Pure.

What the contract reads is decoded, and the rest is copied as it is. Decoding and encoding with pamqp changed
messages: doubles became floats, an absent priority became 0, and a timestamp in microseconds ended the
connection. Layout: AMQP 0-9-1, section 4.2.6.1. The order and the types of the properties are those of its
amqp0-9-1.xml.
"""

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

from worker.broker import tables
from worker.broker.tables import Field, UnreadableError, Value

CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY = 0x8000, 0x4000, 0x2000, 0x1000, 0x0800
"""Flags of properties, here and below. They serve as names of the properties."""
CORRELATION_ID, REPLY_TO, EXPIRATION, MESSAGE_ID, TIMESTAMP = 0x0400, 0x0200, 0x0100, 0x0080, 0x0040
TYPE, USER_ID, APP_ID, CLUSTER_ID = 0x0020, 0x0010, 0x0008, 0x0004

_ORDER = (
    CONTENT_TYPE,
    CONTENT_ENCODING,
    HEADERS,
    DELIVERY_MODE,
    PRIORITY,
    CORRELATION_ID,
    REPLY_TO,
    EXPIRATION,
    MESSAGE_ID,
    TIMESTAMP,
    TYPE,
    USER_ID,
    APP_ID,
    CLUSTER_ID,
)
_OCTETS = frozenset((DELIVERY_MODE, PRIORITY))
_FLAGS = struct.Struct(">H")
_LENGTH = struct.Struct(">I")
_TIMESTAMP = struct.Struct(">Q")
_MAX_SHORT_STRING = 255


class Properties:
    """The properties of one message. Making one never raises, whatever the bytes are.

    Args:
        raw: The flags and the values, as they stand in the content's header.

    Attributes:
        raw: The same.
        defect: Why not all of it can be read, as one line; empty when it can. What stands before the defect
            can be read.
    """

    __slots__ = ("_fields", "_values", "defect", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.defect = ""
        self._values: dict[int, tuple[int, int]] = {}
        self._fields: list[Field] = []
        try:
            self._find_values()
            if HEADERS in self._values:
                self._find_headers()
        except UnreadableError as exc:
            self.defect = str(exc)

    def short(self, flag: int) -> str | None:
        """A property that is a short string; None when it is absent or not UTF-8."""
        if flag not in self._values:
            return None
        start, end = self._values[flag]
        try:
            return self.raw[start + 1 : end].decode()
        except UnicodeDecodeError:
            return None

    def octet(self, flag: int) -> int | None:
        """A property that is one byte, such as the priority; None when it is absent."""
        return self.raw[self._values[flag][0]] if flag in self._values else None

    def sent_at(self) -> datetime | None:
        """The timestamp; None when it is absent or no calendar has it."""
        if TIMESTAMP not in self._values:
            return None
        return tables.moment(_TIMESTAMP.unpack_from(self.raw, self._values[TIMESTAMP][0])[0])

    def header(self, name: str) -> Any:  # noqa: ANN401 - whatever a publisher put there
        """The value of a header; None without one. Of several with the same name the last counts."""
        if not self._fields:
            return None
        wanted = name.encode()
        field = next((field for field in reversed(self._fields) if field.name == wanted), None)
        return None if field is None else tables.read(self.raw, field)

    def headers(self) -> dict[str, Any]:
        """All headers that can be read."""
        return {tables.name_of(field): tables.read(self.raw, field) for field in self._fields}

    def values(self) -> dict[int, bytes]:
        """The bytes of each property that is there."""
        return {flag: self.raw[start:end] for flag, (start, end) in self._values.items()}

    def headers_but(self, dropped: Callable[[bytes], bool]) -> bytes:
        """The bytes of the headers, except those whose name is `dropped`.

        Raises:
            UnreadableError: They cannot be separated.
        """
        if HEADERS not in self._values:
            return b""
        start, end = self._values[HEADERS]
        found = list(tables.fields(self.raw, start + _LENGTH.size, end))
        return b"".join(self.raw[field.start : field.end] for field in found if not dropped(field.name))

    def _find_values(self) -> None:
        raw = self.raw
        if len(raw) < _FLAGS.size:
            raise UnreadableError("the properties are cut off")
        (flags,) = _FLAGS.unpack_from(raw)
        position = _FLAGS.size
        for flag in _flags_set(flags):
            end = _end(raw, flag, position)
            if end > len(raw):
                raise UnreadableError("the properties are cut off")
            self._values[flag] = position, end
            position = end
        if flags & 3 or position != len(raw):
            raise UnreadableError("there are properties that AMQP does not know")

    def _find_headers(self) -> None:
        start, end = self._values[HEADERS]
        try:
            self._fields = list(tables.fields(self.raw, start + _LENGTH.size, end))
            tables.check_nested(self.raw, self._fields)
        except UnreadableError as exc:
            found, self._fields = self._fields, []
            for field in found:
                with suppress(UnreadableError):
                    tables.check_nested(self.raw, [field])
                    self._fields.append(field)
            raise UnreadableError(f"the headers cannot be read: {exc}") from exc


def written(values: Mapping[int, bytes]) -> bytes:
    """Write a property list: the flags, then the given bytes of each property."""
    return _FLAGS.pack(sum(values)) + b"".join([values[flag] for flag in _ORDER if flag in values])


def short(text: str) -> bytes:
    """Write a short string. Raises ValueError if it has more than 255 bytes."""
    octets = text.encode()
    if len(octets) > _MAX_SHORT_STRING:
        raise ValueError(f"{text!r} is longer than the {_MAX_SHORT_STRING} bytes that AMQP allows")
    return bytes((len(octets),)) + octets


def table(headers: Mapping[str, Value], others: bytes = b"") -> bytes:
    """Write a table of headers: the bytes of `others`, then ours."""
    content = others + b"".join([tables.write(name, value) for name, value in headers.items()])
    return _LENGTH.pack(len(content)) + content


def timestamp(moment: datetime) -> bytes:
    """Write a timestamp."""
    return _TIMESTAMP.pack(int(moment.timestamp()))


@lru_cache(maxsize=256)
def _flags_set(flags: int) -> tuple[int, ...]:
    return tuple(flag for flag in _ORDER if flags & flag)


def _end(raw: bytes, flag: int, position: int) -> int:
    """Where the property ends whose value begins at `position`; past the end of `raw` if it is cut off."""
    if flag == HEADERS:
        length = _LENGTH.size
        return (
            position
            + length
            + int.from_bytes(raw[position : position + length].ljust(length, b"\xff"), "big")
        )
    if flag in _OCTETS:
        return position + 1
    if flag == TIMESTAMP:
        return position + _TIMESTAMP.size
    return position + 1 + raw[position] if position < len(raw) else len(raw) + 1
