"""How much memory something takes at its peak."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


def track_peak() -> Callable[[], int]:
    """Begin anew to note this process's peak (proc(5), clear_refs); gives how to read its growth in bytes."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        pytest.skip("the kernel does not let a process reset its peak memory")
    before = _peak()
    return lambda: _peak() - before


def _peak() -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024
