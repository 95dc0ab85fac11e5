"""Writing log lines to a pipe or a socket whose reader comes late, or never, and to a file."""

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.observe import sink
from worker.observe.sink import Sink

LONG = b"x" * 10_000 + b"\n"


def unexpected(dropped: int) -> None:
    raise AssertionError(f"{dropped} lines were dropped")


class Pipe:
    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing

    def read(self, size: int) -> bytes:
        """Read exactly so much; blocks until it has come."""
        read = b""
        while len(read) < size:
            read += os.read(self.reading, size - len(read))
        return read


@pytest.fixture(params=["pipe", "socket"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    """What container runtimes give a worker for its output, and what systemd does."""
    made = (
        os.pipe() if request.param == "pipe" else tuple(end.detach() for end in reversed(socket.socketpair()))
    )
    yield Pipe(*made)
    for descriptor in made:
        os.close(descriptor)


def test_a_line_is_in_the_pipe_when_write_returns(pipe: Pipe) -> None:
    """So a process that is killed right after it loses nothing."""
    Sink(pipe.writing, unexpected).write(b"hello\n")
    assert os.read(pipe.reading, 100) == b"hello\n"


def test_a_line_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        Sink(file.fileno(), unexpected).write(LONG)
        assert log.read_bytes() == LONG


def test_a_shared_descriptor_still_blocks_for_others(pipe: Pipe) -> None:
    Sink(pipe.writing, unexpected).write(b"hello\n")
    assert os.get_blocking(pipe.writing)


def test_a_slow_reader_delays_nobody_and_loses_nothing(pipe: Pipe) -> None:
    lines = [b"%06d " % number + LONG for number in range(200)]
    written = Sink(pipe.writing, unexpected)

    for line in lines:
        written.write(line)

    assert pipe.read(sum(map(len, lines))) == b"".join(lines)
    written.flush(timeout=60)


def test_lines_go_straight_out_once_the_reader_caught_up(pipe: Pipe) -> None:
    written = Sink(pipe.writing, unexpected)
    for _ in range(20):
        written.write(LONG)
    pipe.read(20 * len(LONG))
    written.flush(timeout=60)

    written.write(b"late\n")

    assert os.read(pipe.reading, 100) == b"late\n"


def test_what_does_not_fit_into_memory_is_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "_MOST_WAITING", 20 * len(LONG))
    told = threading.Event()
    dropped: list[int] = []

    def tell(count: int) -> None:
        dropped.append(count)
        told.set()

    written = Sink(pipe.writing, tell)
    for _ in range(100):
        written.write(LONG)
    read = 0
    while not told.is_set():
        if select.select([pipe.reading], [], [], 0.05)[0]:
            read += len(os.read(pipe.reading, len(LONG)))
    (count,) = dropped
    pipe.read((100 - count) * len(LONG) - read)

    assert 0 < count < 80
    assert select.select([pipe.reading], [], [], 0)[0] == []


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Sink(writing, unexpected).write(b"hello\n")
    os.close(writing)
