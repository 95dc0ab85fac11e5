"""Writes lines to a descriptor without ever making the event loop wait for whoever reads them."""

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

_MOST_WAITING = 16 * 1024 * 1024
_ATOMIC = select.PIPE_BUF
"""A pipe that polls as writable takes so many bytes at once without blocking (pipe(7))."""


class Sink:
    """A descriptor, and a thread that takes over while its reader does not keep up.

    As long as the reader does, a line is written before `write` returns: a process that is killed loses none.
    Otherwise lines wait in memory, up to 16 MiB; what comes on top is dropped and counted.

    Args:
        descriptor: A pipe, a file or a terminal.
        on_dropped: Is told, from the thread, how many lines were dropped once there is room again.
    """

    def __init__(self, descriptor: int, on_dropped: Callable[[int], None]) -> None:
        self._descriptor, self._may_block = _unblocked(descriptor)
        self._on_dropped = on_dropped
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0

    def write(self, line: bytes) -> None:
        """Write a line, or have it wait for its turn."""
        with self._lock:
            rest = self._write_now(line) if self._idle.is_set() else line
            if rest:
                self._wait_with(rest)

    def flush(self, timeout: float) -> None:
        """Wait, for some seconds at most, until everything is written."""
        self._idle.wait(timeout)

    def _write_now(self, line: bytes) -> bytes:
        """Write as much as goes without waiting; gives the rest."""
        while line and (not self._may_block or self._poll.poll(0)):
            rest = self._write_some(line)
            if len(rest) == len(line):
                break
            line = rest
        return line

    def _write_some(self, line: bytes) -> bytes:
        try:
            return line[os.write(self._descriptor, line[:_ATOMIC]) :]
        except BlockingIOError:
            return line
        except OSError:
            # Nobody reads any more; there is nowhere to say so.
            return b""

    def _wait_with(self, line: bytes) -> None:
        if self._waiting_bytes + len(line) > _MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._idle.is_set():
            self._idle.clear()
            threading.Thread(target=self._catch_up, name="log", daemon=True).start()

    def _catch_up(self) -> None:
        while line := self._next():
            while line:
                self._poll.poll()
                line = self._write_some(line)
        if dropped := self._dropped:
            self._dropped = 0
            self._on_dropped(dropped)

    def _next(self) -> bytes:
        with self._lock:
            if not self._waiting:
                self._idle.set()
                return b""
            line = self._waiting.popleft()
            self._waiting_bytes -= len(line)
            return line


def _unblocked(descriptor: int) -> tuple[int, bool]:
    """Give a descriptor for the same file, and whether a write to it may block unless it is polled before.

    Each call that asks the system gives up the interpreter's lock, and the poll costs as much as the write.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor, False
    if stat.S_ISFIFO(kind):
        # Opened anew: O_NONBLOCK on the one that we were given would hold for all who share it (open(2)).
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK), False
    return descriptor, True
