"""A shell that keeps its state from one command to the next, as a reader's does."""

import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 120.0


class Shell:
    """A bash, whose two output streams are one; everything that it started ends with it."""

    def __init__(self, *, cwd: Path, env: Mapping[str, str], inside: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*inside, "bash", "--noprofile", "--norc"],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; gives its exit code and what it printed."""
        end = secrets.token_hex(8)
        printed = self.start(f"{command}\necho {end} $?", lambda text: end in text and text.endswith("\n"))
        text, _, code = printed.rpartition(end)
        return int(code), text

    def start(self, command: str, is_ready: Callable[[str], bool]) -> str:
        """Start a command, and give what it printed once that `is_ready`."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        printed = b""
        deadline = time.monotonic() + PATIENCE
        while not is_ready(printed.decode(errors="replace")):
            ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"it did not end; it has printed: {printed.decode()}"
            chunk = os.read(self._process.stdout.fileno(), 65_536)
            assert chunk, f"the shell ended; it has printed: {printed.decode()}"
            printed += chunk
        return printed.decode()

    def interrupt(self) -> None:
        """Send Ctrl-C, and wait until what runs has ended, this shell too."""
        os.killpg(self.pid, signal.SIGINT)
        self._process.wait(PATIENCE)
