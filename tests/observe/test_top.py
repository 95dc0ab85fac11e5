"""`ccfs-worker top`, as a person and as a script use it."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from rich.console import Console, RenderableType

from tests.commands import CCFS_WORKER, command
from tests.observe.statuses import BUSY, job
from worker.cli.screen import frame
from worker.cli.status_tables import StatusAnswer
from worker.observe import web
from worker.observe.status import State, Status

NOBODY = "127.0.0.1:1"
WIDE = {"COLUMNS": "200", "LINES": "40", "TERM": "xterm-256color"}


@asynccontextmanager
async def worker_saying(status: Status) -> AsyncIterator[str]:
    """A worker's HTTP server that gives this status; yields its address."""

    async def read() -> Status:
        return status

    async with web.serve("127.0.0.1", 0, checks={}, render=lambda: b"", status=read) as port:
        yield f"127.0.0.1:{port}"


async def top(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(command, CCFS_WORKER, "top", *arguments, settings=WIDE)


async def test_one_look_shows_several_workers() -> None:
    other = BUSY.model_copy(update={"host": "ccfs-worker-other", "state": State.WORKING, "jobs": []})
    async with worker_saying(BUSY) as first, worker_saying(other) as second:
        done = await top("--once", first, second)

    assert done.returncode == 0, done.stderr
    for text in (
        *(
            "ccfs-worker-7d9f",
            "paused",
            "4 of 16",
            "151.2",
            "3.3 MiB",
            "123,456",
            "ccfs-worker-other",
            "working",
        ),
        *("✗ ccfs-worker-7d9f intake: paused: storage: 7 bytes are free", "ccfs.jobs.retry.10s", "1,200"),
        *("ccfs.failed", "unknown: its leader is silent"),
        *("20260131_9239cb50a8384bb0ab503441bf000001.zip", "3.0 MiB of 12.0 MiB", "no queue takes 'failed'"),
    ):
        assert text in done.stdout
    assert ["TIMEOUT", "80", "0"] in [line.split()[-3:] for line in done.stdout.splitlines()]


async def test_a_worker_that_does_not_answer_is_told_and_ends_with_1() -> None:
    async with worker_saying(BUSY) as first:
        done = await top("--once", first, f"http://{NOBODY}")

    assert done.returncode == 1
    assert "ccfs-worker-7d9f" in done.stdout
    assert f"✗ http://{NOBODY} cannot be reached: Connection refused" in done.stdout


async def test_a_script_reads_one_object_for_each_worker() -> None:
    async with worker_saying(BUSY) as first:
        done = await top("--once", "--output", "json", first, NOBODY)

    told, silent = (json.loads(line) for line in done.stdout.splitlines())
    assert Status.model_validate(told["status"]) == BUSY
    assert (told["url"], told["problem"]) == (f"http://{first}", "")
    assert silent["status"] is None
    assert silent["problem"]


async def test_something_else_behind_the_address_is_no_traceback() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        done = await top("--once", f"127.0.0.1:{port}")

    assert done.returncode == 1
    assert "not as a worker" in done.stdout
    assert done.stderr == ""


async def test_a_name_that_a_worker_refuses_is_a_line() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        done = await top("--once", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert done.returncode == 1
    assert "WORKER_HTTP__ALLOWED_HOSTS" in done.stdout


@contextlib.contextmanager
def in_a_terminal(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run it as a person does; gives the process and the other side of its terminal."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [CCFS_WORKER, "top", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **WIDE},
    ) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 65_536)


async def test_the_terminal_refreshes_until_ctrl_c() -> None:
    async with worker_saying(BUSY) as first:
        with in_a_terminal("--interval", "0.1", first) as (process, terminal):
            for _ in range(3):
                await asyncio.to_thread(read_until, terminal, b"ccfs-worker-7d9f")
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 60) == 0


def printed(what: RenderableType, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(what)
    return console.export_text(styles=False)


@pytest.mark.parametrize(("height", "shown"), [(None, 40), (30, 16)])
def test_jobs_that_find_no_place_are_counted(height: int | None, shown: int) -> None:
    busy = BUSY.model_copy(update={"jobs": [job(number) for number in range(40)]})
    text = printed(frame([StatusAnswer("http://w", busy, "")], 200, height))
    assert text.count(".zip") == shown
    assert ("more" in text) is (shown < 40)
    assert height is None or len(text.splitlines()) <= height


def test_eighty_columns_keep_worker_state_and_whole_reasons() -> None:
    text = printed(frame([StatusAnswer("http://w", BUSY, "")], 80), 80)

    head, worker, *_ = text.splitlines()
    assert head.split()[:4] == ["WORKER", "STATE", "IN", "FLIGHT"]
    assert worker.split()[:3] == ["ccfs-worker-7d9f", "paused", "3"]
    assert max(map(len, text.splitlines())) <= 80
    flowing = " ".join(text.split())
    assert "✗ ccfs-worker-7d9f intake: paused: storage: 7 bytes are free" in flowing
    assert "up to 4 of 16: asked to slow down: CC-FS answered HTTP 429" in flowing
    assert "holds app7 for 2h, 1,234 jobs: UNAUTHORIZED: CC-FS answered HTTP 401" in flowing


def test_no_answer_is_not_nothing_to_do() -> None:
    text = printed(frame([StatusAnswer("http://w", None, "cannot be reached: Connection refused")], 80), 80)

    assert "No worker answers." in text
    assert "Nothing in flight" not in text


def test_control_characters_do_not_reach_the_terminal() -> None:
    hostile = BUSY.model_copy(update={"host": "\x1b[2Jhost", "jobs": [job(1, app_id="\x1b[31mapp")]})
    assert "\x1b" not in printed(frame([StatusAnswer("http://w", hostile, "")], 200))
