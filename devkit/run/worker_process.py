"""Run a real worker as a process, and follow it by its log and its HTTP server."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

_POLL = 0.01
_PATIENCE = 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

Line = dict[str, Any]


class WorkerError(RuntimeError):
    """The worker did not do something in time; the text holds the end of its log."""


class WorkerProcess:
    """A worker, started on entry and killed on exit.

    Enter it from the main thread: the kernel kills the process when the thread that started it ends.

    Attributes:
        log_file: What it printed, over all its starts.
    """

    def __init__(self, settings: Mapping[str, str], *, log_file: Path, output: int | None = None) -> None:
        """Set a worker up; nothing runs yet.

        Args:
            settings: Its `WORKER_…` variables; it inherits none, and listens on a free port by default.
            log_file: Where to write what it prints; created or appended to.
            output: A descriptor to print to instead; its reader writes it to `log_file`.
        """
        self._settings = {"WORKER_HTTP__HOST": "127.0.0.1", "WORKER_HTTP__PORT": "0", **settings}
        self.log_file = log_file
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None while it runs."""
        return self._running().poll()

    def start(self) -> None:
        """Start the process; `logged` does not look at lines from before."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        self.log_file.touch()
        self._offset = self.log_file.stat().st_size
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                env=inherited | self._settings,
                # A folder without an .env file of the user.
                cwd=self.log_file.parent,
                stdin=subprocess.DEVNULL,
                stdout=log if self._output is None else self._output,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - started from the main thread
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running().send_signal(number)

    def kill(self) -> None:
        """Kill the process, as a node that dies would, and return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def exited(self, patience: float = _PATIENCE) -> int:
        """Wait until the process ends by itself, and return its exit code."""
        deadline = time.monotonic() + patience
        while self.exit_code is None:
            await self._pause(deadline, "it did not end")
        return self._running().returncode

    def lines(self) -> Iterator[Line]:
        """Return what the process has logged since its start; lines that are not JSON are left out."""
        with self.log_file.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if line.startswith(b"{") and line.endswith(b"\n"):
                    yield json.loads(line)

    async def logged(
        self, event: str, *, count: int = 1, patience: float = _PATIENCE, **fields: object
    ) -> Line:
        """Wait until an event with these fields has been logged `count` times; return the last line.

        Raises:
            WorkerError: That did not happen in time, or the process ended before it.
        """
        deadline = time.monotonic() + patience
        while True:
            ended = self.exit_code is not None
            found = [line for line in self.lines() if _matches(line, event, fields)]
            if len(found) >= count:
                return found[count - 1]
            if ended:
                raise WorkerError(self._story(f"ended without logging {event} {fields}"))
            await self._pause(deadline, f"it did not log {event} {count} times with {fields}")

    async def readiness(self, status: int = 200, *, patience: float = _PATIENCE) -> dict[str, Any]:
        """Wait until `/readyz` answers with that status; return its checks by name."""
        deadline = time.monotonic() + patience
        await self.logged("worker.started", patience=patience)
        while True:
            answered, body = await self.get("/readyz")
            if answered == status:
                checks: dict[str, Any] = json.loads(body)["checks"]
                return checks
            await self._pause(deadline, f"/readyz did not answer {status} but {answered} {body}")

    async def get(self, path: str) -> tuple[int, str]:
        """Get a page of the worker's HTTP server: status and text, or (0, why) when there is no answer."""
        started = await self.logged("worker.started")
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{started['http_port']}{path}")

    def memory(self) -> int:
        """The resident size now, in bytes (`VmRSS`, proc(5))."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """The highest resident size so far, in bytes (`VmHWM`, proc(5))."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next((line for line in status.splitlines() if line.startswith(f"{name}:")), None)
        if line is None:
            # A process that has ended, and was not waited for, has a status without memory.
            raise WorkerError(self._story("has ended"))
        return int(line.split()[1]) * 1024

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise WorkerError("the worker was never started")
        return self._process

    async def _pause(self, deadline: float, complaint: str) -> None:
        if time.monotonic() > deadline:
            raise WorkerError(self._story(complaint))
        await asyncio.sleep(_POLL)

    def _story(self, what: str) -> str:
        tail = self.log_file.read_text(errors="replace").splitlines()[-20:]
        return "\n".join([f"worker: {what}; its log ends so:", *tail])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _matches(line: Line, event: str, fields: Mapping[str, object]) -> bool:
    return line.get("event") == event and all(line.get(name) == value for name, value in fields.items())


def _get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=10) as response:  # noqa: S310 - http to ourselves
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except (URLError, OSError) as error:
        return 0, str(error)
