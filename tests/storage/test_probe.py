"""Trying out a storage root: each broken promise is found, and nothing is left behind."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from worker.finding import Finding
from worker.storage.probe import free_space, probe_storage


def probe(root: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in probe_storage(root)}


def broken(findings: dict[str, Finding]) -> list[str]:
    return [name for name, finding in findings.items() if not finding.ok]


def test_a_good_root_is_found_good_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "app1").mkdir()

    findings = probe(tmp_path)

    assert broken(findings) == []
    assert len(findings) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["app1"]


def test_a_rename_that_is_not_atomic_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that copies: a reader comes while the file is half there."""
    read = threading.Event()
    whole_read, whole_replace = Path.read_bytes, Path.replace

    def read_bytes(path: Path) -> bytes:
        content = whole_read(path)
        read.set()
        return content

    def replace(path: Path, target: Path) -> Path:
        content = whole_read(path)
        target.write_bytes(content[: len(content) // 2])
        # Two reads: the first may have begun before.
        for _ in range(2):
            read.clear()
            read.wait(0.2)
        return whole_replace(path, target)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr("worker.storage.probe._RENAMES", 3)

    findings = probe(tmp_path)

    assert broken(findings) == ["storage atomic rename"]
    assert "found a part of one" in findings["storage atomic rename"].detail


def test_a_name_that_is_given_out_twice_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch
    monkeypatch.setattr(Path, "touch", lambda path, **_: touch(path))

    assert broken(probe(tmp_path)) == ["storage exclusive create"]


def test_a_directory_that_cannot_be_flushed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse_directories(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_directories)

    assert broken(probe(tmp_path)) == ["storage durable names"]


def test_a_clock_that_differs_from_the_file_server_s_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 300)

    findings = probe(tmp_path)

    assert broken(findings) == ["storage clock"]
    assert "-300 s off" in findings["storage clock"].detail


def test_a_root_that_takes_no_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)

    findings = probe(tmp_path)

    assert broken(findings) == ["storage writable"]
    assert "Read-only file system" in findings["storage writable"].detail


def test_too_little_space_is_told(tmp_path: Path) -> None:
    finding = free_space(tmp_path, min_free_bytes=shutil.disk_usage(tmp_path).total * 2)

    assert (finding.name, finding.ok) == ("storage free space", False)


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_breaks_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: int) -> None:
    """A worker may start on one: it waits for space, and says so."""

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(full, os.strerror(full), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)

    findings = probe(tmp_path)

    assert broken(findings) == []
    assert "full" in findings["storage writable"].detail


def test_what_a_killed_trial_left_is_removed_by_a_later_one(tmp_path: Path) -> None:
    left, running = tmp_path / ".ccfs-worker-check-1", tmp_path / ".ccfs-worker-check-2"
    for directory in (left, running):
        directory.mkdir()
    os.utime(left, (0, 0))

    probe(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [running.name]
