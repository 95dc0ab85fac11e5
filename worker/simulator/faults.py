"""The faults that the simulator injects, as data; `answers` sends them."""

import asyncio
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

DESCRIPTIONS: Mapping[str, str] = {
    "0300001": "The parameter is null.",
    "0300002": "The parameter is an empty string.",
    "0300003": "The parameter is too long.",
    "0300004": "The format of the parameter is incorrect.",
    "0300005": "The parameter is too short.",
    "0300006": "The protocol version is incorrect.",
    "0300007": "The request body has no parameters.",
    "0300008": "The flow control threshold of downloads is reached.",
    "0300009": "The flow control threshold of queries is reached.",
    "0300010": "The date in the file name is malformed.",
    "0300011": "The file does not exist.",
    "0300012": "No data is found.",
    "0300013": "The begin time is later than the end time.",
}
"""The result codes of the vendor's page cec_07_0835, apart from success."""


HttpStatus = Annotated[int, Field(ge=200, le=599)]
Size = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong with an answer; the first line of each one's docstring explains it to users."""

    kind: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """Its name on the command line and in records."""
        return self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCode(Fault):
    """HTTP 200 and JSON with that resultCode."""

    kind = "RESULTCODE"
    code: str

    @property
    def name(self) -> str:
        """The code itself."""
        return self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCode(Fault):
    """That HTTP status, with a Retry-After in seconds, or as a date, given in seconds from now.

    Attributes:
        text: The body, as plain text.
    """

    kind = "http-STATUS"
    status: HttpStatus
    retry_after: Annotated[int, Field(ge=0)] | None = None
    retry_date: int | None = None
    text: str = ""

    @property
    def name(self) -> str:
        """`http-` and the status."""
        return f"http-{self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _InBody(Fault):
    """Something that happens in the middle of the body.

    Attributes:
        at: Where in the body, from 0 to 1. At least one byte is sent before.
    """

    at: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Fault):
    """The connection is reset before any answer."""

    kind = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetBody(_InBody):
    """The connection is reset in the middle of the body."""

    kind = "reset-body"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortBody(_InBody):
    """The connection is closed properly before all announced bytes were sent."""

    kind = "short"


@dataclass(frozen=True, slots=True, kw_only=True)
class LongBody(Fault):
    """More bytes than announced."""

    kind = "long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked(Fault):
    """A good file, but chunked: its size is not announced."""

    kind = "chunked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedCut(_InBody):
    """Chunked, and the connection is closed before the last chunk."""

    kind = "chunked-cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip(Fault):
    """A good file, sent slowly; rate is in bytes per second."""

    kind = "drip"
    rate: Annotated[float, Field(gt=0)] = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence(Fault):
    """No answer at all, and the connection stays open."""

    kind = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(_InBody):
    """Silence in the middle of the body, and the connection stays open."""

    kind = "stall"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCrc(Fault):
    """A whole zip with one wrong CRC."""

    kind = "bad-crc"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotZip(Fault):
    """Text under the content type of a zip."""

    kind = "not-zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty(Fault):
    """No byte at all under the content type of a zip."""

    kind = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonAsZip(Fault):
    """JSON with a resultCode under the content type of a zip."""

    kind = "json"
    code: str = "0300011"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(Fault):
    """A redirect to another host."""

    kind = "redirect"
    status: HttpStatus = 302
    location: str = "https://elsewhere.invalid/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gzip(Fault):
    """The zip inside a gzip, and Content-Encoding says so."""

    kind = "gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waf(Fault):
    """A web application firewall's page in HTML."""

    kind = "waf"
    status: HttpStatus = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeError(Fault):
    """A very long error body; size is in bytes."""

    kind = "huge-error"
    status: HttpStatus = 500
    size: Size = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeHeaders(Fault):
    """A very long header; size is in bytes."""

    kind = "huge-headers"
    size: Size = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHeaders(Fault):
    """A header that never ends, a few bytes each second."""

    kind = "slow-headers"


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeChunkHeader(Fault):
    """Chunked, with a very long chunk extension; size is in bytes."""

    kind = "huge-chunk-header"
    size: Size = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversized(Fault):
    """Many more bytes announced than the file has; then the connection is closed."""

    kind = "oversized"
    announced: Size = 1024**4


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless(Fault):
    """A body that never ends, chunked."""

    kind = "endless"


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage(Fault):
    """An answer that is not HTTP."""

    kind = "garbage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(_InBody):
    """Waits in the middle of the body until it is released; for tests in the same process.

    Attributes:
        before_headers: Waits before the answer's first byte instead.
        reached: Set when the answer has come to this point.
        release: Set it to continue the answer.
    """

    kind = "hold"
    before_headers: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    release: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


KINDS: Mapping[str, type[Fault]] = {
    kind.kind: kind
    for kind in (
        ResultCode,
        StatusCode,
        Waf,
        Redirect,
        Reset,
        ResetBody,
        ShortBody,
        LongBody,
        Chunked,
        ChunkedCut,
        Drip,
        SlowHeaders,
        Silence,
        Stall,
        BadCrc,
        NotZip,
        Empty,
        JsonAsZip,
        Gzip,
        Oversized,
        Endless,
        HugeError,
        HugeHeaders,
        HugeChunkHeader,
        Garbage,
    )
}
"""The kinds that the command line accepts."""


@dataclass(frozen=True, slots=True)
class FaultRate:
    """A fault and its share of all answers, from 0 to 1."""

    fault: Fault
    rate: float


class Explained(NamedTuple):
    """A kind of fault as the manual shows it.

    Attributes:
        name: Its name on the command line.
        options: Its options with their defaults; the empty default is none.
        meaning: What happens, as one line.
    """

    name: str
    options: Mapping[str, str]
    meaning: str


def explain() -> Iterator[Explained]:
    """Explain every kind."""
    for name, kind in KINDS.items():
        given = "code" if kind is ResultCode else "status" if kind is StatusCode else ""
        options = {
            option.name.replace("_", "-"): "" if option.default is None else str(option.default)
            for option in fields(kind)
            if option.name != given
        }
        yield Explained(name, options, (inspect.getdoc(kind) or "").splitlines()[0])


class FaultSpecError(ValueError):
    """A fault's description is wrong; the text says what, in one line."""


def parse_fault(spec: str) -> FaultRate:
    """Read `KIND[,OPTION=VALUE...]:RATE`, such as `0300008:0.1` or `http-503,retry-after=5:0.05`.

    Raises:
        FaultSpecError: The text is not of this form.
    """
    description, colon, rate = spec.rpartition(":")
    if not colon:
        raise FaultSpecError(f"{spec}: must be KIND:RATE, such as 0300008:0.1")
    try:
        part = float(rate)
    except ValueError:
        part = -1
    if not 0 < part <= 1:
        raise FaultSpecError(f"{spec}: the rate must be a number above 0 and up to 1")
    name, *options = description.split(",")
    kind, values = _kind(name, spec)
    for option in options:
        key, _, value = option.partition("=")
        values[key.strip().replace("-", "_")] = value.strip()
    return FaultRate(_build(kind, values, spec), part)


def _kind(name: str, spec: str) -> tuple[type[Fault], dict[str, str]]:
    if re.fullmatch(r"[0-9]{1,32}", name):
        return ResultCode, {"code": name}
    if re.fullmatch(r"http-[0-9]{3}", name):
        return StatusCode, {"status": name.removeprefix("http-")}
    kind = KINDS.get(name)
    if kind is None or kind in (ResultCode, StatusCode):
        known = ", ".join(KINDS).replace("RESULTCODE", "a result code (0300008)")
        raise FaultSpecError(f"{spec}: {name or 'nothing'} is no kind of fault; there are {known}")
    return kind, {}


def _build(kind: type[Fault], values: dict[str, str], spec: str) -> Fault:
    known = [option.name for option in fields(kind)]
    if unknown := values.keys() - set(known):
        options = ", ".join(name.replace("_", "-") for name in known) or "none"
        raise FaultSpecError(f"{spec}: {min(unknown)} is no option of this kind; it has {options}")
    try:
        return TypeAdapter(kind).validate_strings(values)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        message = error["msg"][:1].lower() + error["msg"][1:]
        raise FaultSpecError(f"{spec}: {error['loc'][0]}: {message}") from None
