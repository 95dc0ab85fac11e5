"""The sweep: its work follows what is new, and one bad directory does not end it."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.sweeping import sweep_once
from tests.storage.syscalls import fail
from worker.storage import SharedStorage, Threads

UNIQUE = "0123456789abcdef" * 2
ACCOUNTS, DAYS = 5, 10


class Listings:
    """The directories that this process lists, as its interpreter reports them (PEP 578)."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.is_on = False
        # A hook stays for good: there is one, and it is switched.
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event == "os.scandir":
            self.seen.append(str(Path(f"/proc/self/fd/{arguments[0]}").readlink()))


LISTINGS = Listings()


@pytest.fixture
def listed() -> Iterator[list[str]]:
    """What is listed in the test."""
    LISTINGS.seen.clear()
    LISTINGS.is_on = True
    yield LISTINGS.seen
    LISTINGS.is_on = False


@pytest.fixture
def days(root: Path) -> list[Path]:
    """Directories of days that nobody has written into for long."""
    made = [
        root / f"app{account}/202601{day:02}" for account in range(ACCOUNTS) for day in range(1, DAYS + 1)
    ]
    for day in made:
        day.mkdir(parents=True)
        age(day)
    return made


def age(path: Path, seconds: float = 1e6) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def leave(day: Path) -> Path:
    """Leave a temporary file, as a worker that dies does."""
    left = day / f".{day.name}_x.zip.{UNIQUE}.part"
    left.touch()
    return left


async def test_a_later_round_opens_no_day_in_which_nothing_happened(
    storage: SharedStorage, days: list[Path], listed: list[str]
) -> None:
    """The root, for itself and for its accounts, these, and the one day with a new file."""
    sweep = storage.new_sweep(1000)
    assert await sweep_once(storage, sweep) == 0
    assert len(listed) == 2 + ACCOUNTS + len(days)

    left = leave(days[7])
    age(left)
    listed.clear()
    assert await sweep_once(storage, sweep) == 1

    assert len(listed) == 2 + ACCOUNTS + 1
    assert not left.exists()


async def test_a_file_too_young_for_one_round_goes_in_a_later_one(
    storage: SharedStorage, days: list[Path]
) -> None:
    """Though nothing has changed in its directory since."""
    left = leave(days[3])
    age(left, 500)
    age(days[3])
    sweep = storage.new_sweep(1000)
    assert await sweep_once(storage, sweep) == 0
    age(left, 1001)

    assert await sweep_once(storage, sweep) == 1


@pytest.mark.parametrize("off", [3600, -3600])
async def test_a_wrong_clock_changes_nothing_about_the_sweep(
    storage: SharedStorage, days: list[Path], monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    """A file server dates files by its own clock: what is in use stays, and leftovers go in each round."""
    in_use, left = leave(days[3]), leave(days[4])
    age(left, 2000)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + off)
    sweep = storage.new_sweep(1000)
    assert await sweep_once(storage, sweep) == 1
    assert in_use.exists()

    os.utime(leave(days[5]), (right() - 2000,) * 2)
    assert await sweep_once(storage, sweep) == 1


async def test_a_bad_directory_does_not_end_the_sweep(
    storage: SharedStorage, root: Path, days: list[Path], listed: list[str]
) -> None:
    """It is told, and gone through again in the next round, though nothing has changed in it."""
    bad = days[4], days[-1]
    for day in bad:
        age(leave(day))
        age(day)
    sweep = storage.new_sweep(1000)
    with Threads(1) as thread:
        fail(thread, "unlinkat", errno.EIO)
        failing = SharedStorage(root, thread, max_file_bytes=1, min_free_bytes=0)
        assert await sweep_once(failing, sweep) == 0
    assert sweep.problems == [
        f"{day.relative_to(root)}: {os.strerror(errno.EIO)}" for day in order(bad, listed)
    ]
    assert set(map(str, days)) <= set(listed)

    assert await sweep_once(storage, sweep) == len(bad)


def order(days: tuple[Path, ...], listed: list[str]) -> list[Path]:
    """The days in the order in which they were gone through."""
    return sorted(days, key=lambda day: listed.index(str(day)))
