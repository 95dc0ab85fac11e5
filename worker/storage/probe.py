"""Tries out a storage root: whether what the worker builds on holds there.

Shared file systems differ in what they promise. Each promise is put to the test in a hidden directory that is
removed afterwards, or by a later trial when this process dies meanwhile.
"""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from worker.errors import one_line
from worker.finding import Finding, fine, wrong
from worker.storage.errors import FULL
from worker.storage.mount import PREFIX, opened

_LEFT_BEHIND = 3600.0
_BLOCK = 1024 * 1024
_WHOLE = 64 * 1024
_RENAMES = 200
_MAX_SKEW = 60.0
"""Seconds. Leftovers are told by the clock of the file server, or by this machine's if none can be asked."""


def probe_storage(root: Path) -> Iterator[Finding]:
    """Try out a directory; blocks for as long as the storage does.

    A full volume breaks no promise, and a worker may start on it: that is left to `free_space`.

    Yields:
        A finding for each promise; nothing more after one that the others need.
    """
    try:
        with _trial(root) as directory:
            yield from _written(directory)
            yield _exclusive(directory)
            yield _atomic_rename(directory)
            yield _synced(directory)
    except OSError as exc:
        if exc.errno in FULL:
            yield fine("storage writable", "not tried: the volume or a quota is full")
            return
        yield wrong(
            "storage writable",
            f"{one_line(str(exc))}",
            f"let user {os.geteuid()} create directories and files in {root}",
        )


def free_space(root: Path, *, min_free_bytes: int) -> Finding:
    """Compare the free bytes of a directory's volume with those that have to be free."""
    name = "storage free space"
    volume = os.statvfs(root)
    free = volume.f_bavail * volume.f_frsize
    detail = f"{free >> 20:,} MiB free, {min_free_bytes >> 20:,} MiB to stay free"
    if free < min_free_bytes:
        return wrong(name, detail, "make room: the worker takes no jobs until there is")
    return fine(name, detail)


@contextmanager
def _trial(root: Path) -> Iterator[Path]:
    for left in root.glob(f"{PREFIX}*"):
        if time.time() - left.stat().st_mtime > _LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)
    directory = root / f"{PREFIX}{uuid.uuid4().hex}"
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _written(directory: Path) -> Iterator[Finding]:
    path, started = directory / "written", time.monotonic()
    with path.open("xb") as file:
        file.write(os.urandom(_BLOCK))
        file.flush()
        os.fsync(file.fileno())
    milliseconds = (time.monotonic() - started) * 1000
    yield fine("storage writable", f"1 MiB written and flushed to disk in {milliseconds:.0f} ms")
    skew = path.stat().st_mtime - time.time()
    if abs(skew) > _MAX_SKEW:
        yield wrong(
            "storage clock",
            f"new files are dated {skew:+.0f} s off this machine's clock",
            "set the clocks of this machine and of the file server (NTP): leftovers are told by their age",
        )
    else:
        yield fine("storage clock", "agrees with this machine's clock")


def _exclusive(directory: Path) -> Finding:
    name = "storage exclusive create"
    path = directory / "exclusive"
    path.touch(exist_ok=False)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return fine(name, "a name is given out once")
    return wrong(
        name,
        "a file that exists could be created again",
        "mount a file system that honours O_EXCL (NFS: version 3 or later)",
    )


def _atomic_rename(directory: Path) -> Finding:
    """Rename over a file repeatedly while another thread opens and reads it."""
    name = "storage atomic rename"
    target = directory / "target"
    target.write_bytes(b"a" * _WHOLE)
    reader = _Reader(target)
    reader.start()
    try:
        for letter, number in zip(cycle(b"ab"), range(_RENAMES), strict=False):
            part = directory / f"part-{number}"
            part.write_bytes(bytes([letter]) * _WHOLE)
            part.replace(target)
    finally:
        reader.over.set()
        reader.join()
    if reader.flaw:
        return wrong(
            name,
            f"while a file was replaced, a reader {reader.flaw}",
            "mount a POSIX file system: consumers would see files that are missing or partial",
        )
    return fine(name, f"{_RENAMES} times under the eyes of {reader.reads} reads, each of a whole file")


class _Reader(threading.Thread):
    """Reads a file over and over and notes the first time that it is not whole."""

    def __init__(self, target: Path) -> None:
        # A daemon: a read that hangs keeps no process from its end.
        super().__init__(daemon=True)
        self.target = target
        self.over = threading.Event()
        self.flaw = ""
        self.reads = 0

    def run(self) -> None:
        while not self.over.is_set() and not self.flaw:
            try:
                content = self.target.read_bytes()
            except FileNotFoundError:
                self.flaw = "found none"
            except OSError as exc:
                self.flaw = f"got an error: {one_line(str(exc))}"
            else:
                is_whole = len(content) == _WHOLE and len(set(content)) == 1
                self.flaw = "" if is_whole else "found a part of one"
            self.reads += 1


def _synced(directory: Path) -> Finding:
    name = "storage durable names"
    try:
        with opened(directory) as descriptor:
            os.fsync(descriptor)
    except OSError as exc:
        return wrong(
            name,
            f"a directory cannot be flushed to disk: {exc.strerror}",
            "mount a file system that can: a power cut could take finished files away",
        )
    return fine(name, "directories can be flushed to disk")
