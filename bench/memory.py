"""Take memory from the host before it is needed.

A virtual machine gives freed memory back to its host, and touching it again costs 0.5 to 2 s/GiB, which would
fall into whichever sample comes first.
"""

import mmap

from bench.payload import GIB

_PAGE = mmap.PAGESIZE


def touch_memory(size: int = 2 * GIB) -> None:
    """Touch `size` bytes and free them immediately."""
    with mmap.mmap(-1, size) as block:
        for offset in range(0, size, _PAGE):
            block[offset] = 1
