"""The C library's allocator, and Python's collector of cyclic garbage."""

import ctypes
import gc
import os
from contextlib import suppress

_M_ARENA_MAX = -8
_ARENAS = 2


def bound_arenas() -> None:
    """Have threads share glibc's heaps (M_ARENA_MAX, mallopt(3)); to be called before there are any.

    By itself it makes up to eight for each core, and keeps in each what was freed there: with tens of
    storage threads, memory creeps up. Other C libraries have nothing like it; MALLOC_ARENA_MAX goes first.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def spare_startup() -> None:
    """Keep what is there for good out of collections (gc.freeze); to be called once all is imported.

    Every full one would go through it, for tens of milliseconds in which the event loop does nothing else.
    """
    gc.collect()
    gc.freeze()
