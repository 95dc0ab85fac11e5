"""The worker's threads share the heaps of the C library, and its collector has little to go through."""

import os
import re
import subprocess
import sys

import pytest

_ALLOCATE = """
import ctypes, threading
from worker.runtime import bound_arenas

bound_arenas()
together = threading.Barrier(16)

def allocate():
    together.wait()
    kept = bytearray(4096)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""

_COUNT_TRACKED = """
import gc
from worker import app
from worker.runtime import spare_startup

print(len(gc.get_objects()))
spare_startup()
print(len(gc.get_objects()))
"""


@pytest.mark.parametrize(("wish", "most"), [(None, 2), ("5", 5)], ids=["by itself", "as the operator wishes"])
def test_threads_share_heaps(wish: str | None, most: int) -> None:
    """Each heap of its own would keep what was freed in it."""
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    wished = {} if wish is None else {"MALLOC_ARENA_MAX": wish}
    run = subprocess.run(
        [sys.executable, "-c", _ALLOCATE],
        env=inherited | wished,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert len(re.findall("<heap nr=", run.stdout)) == most


def test_a_collection_passes_over_what_is_there_for_good() -> None:
    """It would keep all jobs in hand waiting."""
    run = subprocess.run(
        [sys.executable, "-c", _COUNT_TRACKED], capture_output=True, text=True, check=True, timeout=60
    )
    before, after = map(int, run.stdout.split())

    assert after < before / 100
