"""SIGTERM and SIGINT ask the worker to drain; the second one ends it immediately, and so does a deadline."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.stdlib.get_logger(__name__)


@contextmanager
def drain_on_signal(patience: float, leave: Callable[[], None]) -> Iterator[asyncio.Event]:
    """Give an event that the first signal sets; the default handling returns on leaving.

    Args:
        patience: Seconds after the first signal from which on the process waits for nothing any more.
        leave: Ends the process then. It is called on a thread of its own, since the event loop may be what
            hangs, and also after this context was left, while the interpreter ends.
    """
    loop = asyncio.get_running_loop()
    draining = asyncio.Event()

    def handle(number: signal.Signals) -> None:
        if draining.is_set():
            # The broker takes back whatever a dead worker holds: nothing is lost by not tidying up.
            os._exit(128 + number)
        log.info("worker.draining", signal=number.name)
        draining.set()
        _later(patience, leave)

    for number in _SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield draining
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _later(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
