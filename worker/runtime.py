"""The process as a whole: its event loop, its memory, its signals, its end."""

import asyncio
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import NoReturn

import structlog

_M_ARENA_MAX = -8
_ARENAS = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LAST_WORDS = 2.0
"""Seconds to write the rest of the log. It may lie on the volume that hangs."""

log = structlog.stdlib.get_logger(__name__)


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """The class of uvloop's event loop where the platform has it, else None for asyncio's own."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - not on every platform

    return uvloop.Loop


def bound_arenas() -> None:
    """Make threads share glibc's heaps (M_ARENA_MAX, mallopt(3)). Call it before the first thread starts.

    By default glibc makes up to eight heaps for each core, and each keeps what was freed in it: with tens of
    storage threads, memory creeps up. Other C libraries lack this limit. MALLOC_ARENA_MAX wins over it.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def spare_startup() -> None:
    """Exclude what exists now from later garbage collections (gc.freeze). Call it after all imports.

    Otherwise each full collection visits it, which stops the event loop for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def drain_on_signal(patience: float, leave: Callable[[], None]) -> Iterator[asyncio.Event]:
    """Give an event that the first SIGTERM, SIGINT or SIGHUP sets; the second one ends the process now.

    On leaving, signals have their default handling again.

    Args:
        patience: Seconds after the first signal at which the process stops waiting for anything.
        leave: Ends the process then. It is called on a thread of its own, since the event loop may be what
            hangs. It is called even after this context was left, while the interpreter ends.
    """
    loop = asyncio.get_running_loop()
    draining = asyncio.Event()

    def handle(number: signal.Signals) -> None:
        if draining.is_set() and number is signal.SIGHUP:
            # A terminal that closes may say so twice: itself, and by its shell.
            return
        if draining.is_set():
            # Nothing is lost without a cleanup: the broker takes back whatever a dead worker holds.
            os._exit(128 + number)
        log.info("worker.draining", signal=number.name)
        draining.set()
        deadline = threading.Timer(patience, leave)
        # A thread that is no daemon would keep the process alive until the timer fires.
        deadline.daemon = True
        deadline.start()

    # nohup(1) has a process ignore SIGHUP.
    handled = [
        number
        for number in _SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    for number in handled:
        loop.add_signal_handler(number, handle, number)
    try:
        yield draining
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def end_process(last_words: Callable[[], None]) -> NoReturn:
    """End the process without waiting for threads: one that hangs in the kernel may never return.

    Args:
        last_words: Writes the rest of the log; it may take two seconds.
    """
    # On a thread: the log may be a file on the volume that hangs.
    words = threading.Thread(target=last_words, daemon=True)
    words.start()
    words.join(_LAST_WORDS)
    os._exit(0)
