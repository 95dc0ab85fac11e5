"""Faults as users write them: `KIND[,OPTION=VALUE...]:RATE`."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from worker.simulator.faults import (
    BadCrc,
    Chunked,
    ChunkedCut,
    Drip,
    Empty,
    Endless,
    Fault,
    Garbage,
    Gzip,
    HugeChunkHeader,
    HugeError,
    HugeHeaders,
    JsonAsZip,
    LongBody,
    NotZip,
    Oversized,
    Redirect,
    Reset,
    ResetBody,
    ResultCode,
    ShortBody,
    Silence,
    SlowHeaders,
    Stall,
    StatusCode,
    Waf,
)

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
    known = [option.name for option in fields(kind)]
    if unknown := values.keys() - set(known):
        has = ", ".join(name.replace("_", "-") for name in known) or "none"
        raise FaultSpecError(f"{spec}: {min(unknown)} is no option of this kind; it has {has}")
    try:
        return FaultRate(TypeAdapter(kind).validate_strings(values), part)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        message = error["msg"][:1].lower() + error["msg"][1:]
        raise FaultSpecError(f"{spec}: {error['loc'][0]}: {message}") from None


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
