"""Removes temporary files that dead workers left, a little at a time."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath

from worker.errors import JobError
from worker.storage.tree import Tree

_ROOT = PurePosixPath()
_STEP = 20
"""Directories that one step looks into: it holds a thread, and each may take a file server's round trip."""
_SLACK = 300.0
"""Seconds by which a file server may show a change late, and its clock be set back between two rounds."""


class Sweep:
    """Goes through the directories of all days, round after round; the first looks into each of them.

    A temporary file comes into being in its directory, which changes that directory's own time. So a later
    round looks only into those that have changed since the round before, and into those in which that round
    saw a file too young to be removed, or an error. The others cost a line of their account's listing.
    All times are by the clock that dates the files, the file server's: this machine's may be wrong.
    The root itself is swept for trial files (`worker.storage.trial`).

    Attributes:
        removed: Files removed in this round.
        problems: What went wrong in this round, a line for each directory.

    Args:
        tree: What to sweep.
        older_than: Seconds after which a file that nobody writes to counts as left behind.
    """

    def __init__(self, tree: Tree, older_than: float) -> None:
        self._tree = tree
        self._older_than = older_than
        self._unchanged_before = -math.inf
        self._watched: set[PurePosixPath] = set()
        """What is to be looked into even if it has not changed: days, and accounts with all of their days."""
        self.begin()

    def begin(self) -> None:
        """Begin a round."""
        self.removed = 0
        self.problems: list[str] = []
        self._round = self._go_through()

    def step(self) -> bool:
        """Look into the next directories; blocks, but not for long. Gives False at the end of the round.

        Raises:
            JobError: STORAGE_ERROR when the root cannot be read: the round is over.
            OSError: The same.
        """
        return sum(1 for _ in islice(self._round, _STEP)) == _STEP

    def _go_through(self) -> Iterator[None]:
        """Yield after each directory."""
        began, watched = self._tree.now(), self._watched
        self._watched = set()
        accounts = self._tree.subdirectories(_ROOT)
        self._look_into(_ROOT, began)
        yield
        for account, _ in accounts:
            days: list[tuple[PurePosixPath, float]] = []
            with self._noting(account):
                days = self._tree.subdirectories(account)
            yield
            for day, changed in days:
                if changed >= self._unchanged_before or {account, day} & watched:
                    self._look_into(day, began)
                    yield
        self._unchanged_before = began - _SLACK

    def _look_into(self, path: PurePosixPath, now: float) -> None:
        with self._noting(path):
            removed, young = self._tree.sweep(path, now - self._older_than)
            self.removed += removed
            if young:
                self._watched.add(path)

    @contextmanager
    def _noting(self, path: PurePosixPath) -> Iterator[None]:
        """Go on past what is wrong with one directory, and come back to it in the next round."""
        try:
            yield
        except (FileNotFoundError, PermissionError):
            # What another worker removes meanwhile is gone; what we may not enter is not ours.
            pass
        except (OSError, JobError) as exc:
            self._watched.add(path)
            self.problems.append(exc.message if isinstance(exc, JobError) else f"{path}: {exc.strerror}")
