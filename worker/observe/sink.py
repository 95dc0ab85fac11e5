"""Writes log lines to a descriptor, and never blocks the event loop for a slow reader."""

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

_MOST_WAITING = 16 * 1024 * 1024
_ATOMIC = select.PIPE_BUF
"""A pipe that polls as writable takes this many bytes in one write without blocking (pipe(7))."""


class Sink:
    """A descriptor, and a thread that writes to it while its reader does not keep up.

    While the reader keeps up, a line is written before `write` returns: a killed process loses no line.
    Otherwise lines wait in memory, up to 16 MiB; further ones are dropped and counted.

    Args:
        descriptor: A pipe, a file or a terminal.
        on_dropped: Called in the thread, once every waiting line is written, with the number of dropped ones.
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
        """Write a line, or queue it behind those that wait."""
        # Held over the write, so that lines of two threads do not mix: nothing under it may block.
        with self._lock:
            rest = self._write_now(line) if self._idle.is_set() else line
            if rest and self._waiting_bytes + len(rest) > _MOST_WAITING:
                self._dropped += 1
            elif rest:
                self._waiting.append(rest)
                self._waiting_bytes += len(rest)
                if self._idle.is_set():
                    self._idle.clear()
                    threading.Thread(target=self._catch_up, name="log", daemon=True).start()

    def flush(self, timeout: float) -> None:
        """Wait until every line is written, for `timeout` seconds at most."""
        self._idle.wait(timeout)

    def _write_now(self, line: bytes) -> bytes:
        """Write what the descriptor takes without blocking; return the rest."""
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
            # The reader is gone, and with it the place to report that. The line is lost.
            return b""

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
    """Return a descriptor of the same file, and whether a write to it can block.

    One that can block is polled before each write. A poll costs as much as the write, and both release the
    interpreter's lock: so none is made where it is not needed.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor, False
    if stat.S_ISFIFO(kind):
        # A second open. O_NONBLOCK on the given descriptor would also hold for the processes that share it
        # (open(2)), such as the shell behind it.
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK), False
    return descriptor, True
