"""The CPU seconds and memory of a process and all its descendants, from proc(5)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
# Fields of /proc/<pid>/stat, counted from the state that follows the parenthesised command.
_UTIME, _CSTIME = 11, 14


@dataclass(frozen=True, slots=True)
class Usage:
    """A reading.

    Attributes:
        cpu_seconds: User and system time, children that ended included.
        peak_bytes: The highest resident sizes so far, added up; shared pages count in each process.
        resident_bytes: Those of this moment.
    """

    cpu_seconds: float
    peak_bytes: int
    resident_bytes: int


def of_tree(root: int) -> Usage:
    """Read a process and its living descendants."""
    cpu, peak, resident = 0.0, 0, 0
    for process in _tree(root):
        # It may end meanwhile; its parent then has its time.
        with suppress(FileNotFoundError, ProcessLookupError):
            cpu += _cpu_seconds(process)
            peak += _bytes(process, "VmHWM")
            resident += _bytes(process, "VmRSS")
    return Usage(cpu, peak, resident)


def _tree(root: int) -> Iterator[int]:
    yield root
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in (_PROC / str(root) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))


def _cpu_seconds(process: int) -> float:
    after_command = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_command[_UTIME : _CSTIME + 1])) / _TICKS


def _bytes(process: int, size: str) -> int:
    for line in (_PROC / str(process) / "status").read_text().splitlines():
        if line.startswith(f"{size}:"):
            return int(line.split()[1]) * 1024
    return 0
