"""SIGTERM and SIGINT ask the worker to drain; the second one ends it at once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.stdlib.get_logger(__name__)


@contextmanager
def drain_on_signal() -> Iterator[asyncio.Event]:
    """Give an event that the first signal sets; the default handling returns on leaving."""
    loop = asyncio.get_running_loop()
    draining = asyncio.Event()

    def handle(number: signal.Signals) -> None:
        if draining.is_set():
            # The broker takes back whatever a dead worker holds: nothing is lost by not tidying up.
            os._exit(128 + number)
        log.info("worker.draining", signal=number.name)
        draining.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield draining
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
