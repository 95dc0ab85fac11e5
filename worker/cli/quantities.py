"""Sizes and times as people write and read them: `64KiB`, `1.5 GiB`, `2h`, `0.1-2`."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import typer
from rich.filesize import pick_unit_and_suffix

_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_AGE = re.compile(r"(\d+)([smhd])")
_FACTORS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]?)(?:iB|B)?", re.IGNORECASE)
_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits: `90m` is `1h`."""
    unit, size = next(((unit, size) for unit, size in _SECONDS.items() if seconds >= size), ("s", 1))
    return f"{max(0, int(seconds)) // size}{unit}"


def binary_size(count: float) -> str:
    """A number of bytes in the largest binary unit that fits: `1.5 MiB`."""
    unit, suffix = pick_unit_and_suffix(int(count), _UNITS, 1024)
    return f"{count / unit:.1f} {suffix}" if unit > 1 else f"{count:.0f} {suffix}"


def parse_moment(text: str) -> datetime:
    """Read how long ago something was, or when: `2h`, `3d`, `2026-01-31`, `2026-01-31T22:00Z`.

    A time without a zone is UTC, as in logs and events.

    Raises:
        typer.BadParameter: It is none of these.
    """
    try:
        if ago := _AGE.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        when = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        # OverflowError: `datetime` has no day before the year 1.
        raise typer.BadParameter(f"{text}: must be a number and a unit, such as 90s, 15m, 2h or 3d") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def parse_size(text: str) -> float:
    """Read a number of bytes: `4096`, `64KiB`, `1.5GiB`.

    Raises:
        ValueError: It is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"{text}: must be a size such as 4096, 64KiB, 10MiB or 1GiB")
    return float(found[1]) * _FACTORS[found[2].upper()]


def parse_span(text: str, parse: Callable[[str], float]) -> tuple[float, float]:
    """Read one quantity or two: `0.2`, `10KiB-4MiB`; gives both ends, the same twice when there is one.

    Raises:
        ValueError: The first is above the last, or what `parse` raises.
    """
    low, dash, high = text.partition("-")
    first, last = parse(low), parse(high if dash else low)
    if last < first:
        raise ValueError(f"{text}: a range goes from the smaller to the larger")
    return first, last


def parse_number(text: str) -> float:
    """Read a number, 0 or more.

    Raises:
        ValueError: It is none, or not finite.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise ValueError(f"{text or 'nothing'}: must be a number, 0 or more")
    return number
