"""The installed command, run against an installation of the test's own."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any, Protocol

import pytest

from tests.commands import CCFS_WORKER, command, environment
from tests.installation import Site

PATIENCE = 90.0


class Run(Protocol):
    """Runs a command to its end."""

    async def __call__(self, *arguments: str, typed: str = "", **changes: str) -> CompletedProcess[str]:
        """Run it.

        Args:
            arguments: the command's name and its arguments.
            typed: what its standard input holds.
            changes: settings that differ from the site's.
        """
        ...


@pytest.fixture
def run(site: Site) -> Run:
    """Runs `ccfs-worker` with the site's settings."""

    async def run(*arguments: str, typed: str = "", **changes: str) -> CompletedProcess[str]:
        # On a thread: CC-FS is simulated on the test's own event loop.
        return await asyncio.to_thread(
            command,
            CCFS_WORKER,
            *arguments,
            settings=site.settings(**changes),
            cwd=site.folder,
            typed=typed,
        )

    return run


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@dataclass
class Following:
    """A command that runs on while the test does something."""

    process: asyncio.subprocess.Process
    said: str

    async def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()

    async def ended(self) -> int:
        """Wait until it ends by itself, and give its exit code."""
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


@asynccontextmanager
async def following(site: Site, *arguments: str, until: str, **changes: str) -> AsyncIterator[Following]:
    """Start a command and wait until it has said something on standard error; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        CCFS_WORKER,
        *arguments,
        env=environment(site.settings(**changes)),
        cwd=site.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr
        said = ""
        while until not in said:
            line = await asyncio.wait_for(process.stderr.readline(), PATIENCE)
            assert line, f"it ended, having said: {said}"
            said += line.decode()
        yield Following(process, said)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def on_terminal(
    site: Site, *arguments: str, piped: bool = True
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start a command on a terminal, its results piped or not; gives it and our end."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        CCFS_WORKER,
        *arguments,
        env=environment({**site.settings(), "TERM": "xterm", "COLUMNS": "120"}),
        cwd=site.folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if piped else theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def read_until(terminal: int, text: str = "") -> str:
    """Read a terminal until it shows a text, or, without one, to its end."""

    def read() -> str:
        shown = ""
        with suppress(OSError):
            while not (text and text in shown):
                shown += os.read(terminal, 65_536).decode()
        return shown

    return await asyncio.wait_for(asyncio.to_thread(read), PATIENCE)
