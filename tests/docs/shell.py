"""A shell that keeps its state from one command to the next, as a reader's does."""

import os
import secrets
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 120.0


class Shell:
    """A bash, whose two output streams are one; everything that it started ends with it."""

    def __init__(self, *, cwd: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
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
        os.killpg(self._process.pid, 9)
        self._process.communicate()

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; gives its exit code and what it printed."""
        assert self._process.stdin
        end = secrets.token_hex(8)
        self._process.stdin.write(f"{command}\necho {end} $?\n".encode())
        self._process.stdin.flush()
        printed = self._read_until(end)
        text, _, code = printed.rpartition(end)
        return int(code), text

    def _read_until(self, end: str) -> str:
        assert self._process.stdout
        printed = b""
        deadline = time.monotonic() + PATIENCE
        while not (end.encode() in printed and printed.endswith(b"\n")):
            ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"it did not end; it has printed: {printed.decode()}"
            chunk = os.read(self._process.stdout.fileno(), 65_536)
            assert chunk, f"the shell ended; it has printed: {printed.decode()}"
            printed += chunk
        return printed.decode()
