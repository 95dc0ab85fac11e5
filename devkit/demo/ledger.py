"""Count jobs, outcomes and files, and say what was lost on the way.

The measure is Jepsen's: of the jobs published, how many were lost, duplicated, unexpected or partial. A
duplicate is allowed and counted; the other three are always to be 0.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from schemas import DownloadCompleted, DownloadFailed, Outcome

Digest = Callable[[str, str], str]
"""Returns the SHA-256 of an account's file at CC-FS: (appId, billFileName) to lower-case hex."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the jobs.

    Attributes:
        published: Jobs published.
        completed: Jobs with a `completed` outcome.
        failed: Jobs with `failed` outcomes only.
        lost: Jobs without any outcome.
        duplicated: Outcomes beyond the first of their job.
        unexpected: Outcomes that nobody asked for, or with another digest than the file has at CC-FS or here.
        partial: Files under a final name that are not what CC-FS has.
    """

    published: int
    completed: int
    failed: int
    lost: int
    duplicated: int
    unexpected: int
    partial: int

    @property
    def sound(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.unexpected or self.partial)


@dataclass
class Ledger:
    """The account of one storage root.

    Attributes:
        root: The storage root.
        digest: What the files should be.
        outcomes: The events seen, by job.
    """

    root: Path
    digest: Digest
    outcomes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    _intended: set[str] = field(default_factory=set)
    _published: set[str] = field(default_factory=set)

    def intend(self, job_id: str) -> None:
        """Note that a job is about to be published: it may have an outcome from now on, and need not."""
        self._intended.add(job_id)

    def publish(self, job_id: str) -> None:
        """Note that a job was published and confirmed by the broker: it must have an outcome."""
        self._intended.add(job_id)
        self._published.add(job_id)

    def settle(self, outcome: Outcome) -> None:
        """Note an event."""
        self.outcomes[outcome.job_id].append(outcome)

    @property
    def open_jobs(self) -> set[str]:
        """Jobs without an outcome so far."""
        return self._published - self.outcomes.keys()

    @property
    def codes(self) -> dict[str, str]:
        """By job, the error code of its last outcome; empty for a completed one."""
        return {
            job_id: str(events[-1].error_code) if isinstance(events[-1], DownloadFailed) else ""
            for job_id, events in self.outcomes.items()
        }

    def counts(self) -> Counts:
        """Sum up, and read every file; blocks."""
        seen = [self.outcomes[job_id] for job_id in self._published & self.outcomes.keys()]
        files = self.files()
        completed = sum(any(isinstance(event, DownloadCompleted) for event in events) for events in seen)
        return Counts(
            published=len(self._published),
            completed=completed,
            failed=len(seen) - completed,
            lost=len(self.open_jobs),
            duplicated=sum(len(events) - 1 for events in seen),
            unexpected=sum(1 for _ in self.unexpected(files)),
            partial=sum(1 for _ in self.partial(files)),
        )

    def files(self) -> dict[str, str]:
        """The SHA-256 of each file below the root, by its path there; blocks."""
        digests = {}
        for file in self.root.rglob("*"):
            # Workers may be at work.
            with suppress(FileNotFoundError):
                if file.is_file():
                    with file.open("rb") as opened:
                        digests[str(file.relative_to(self.root))] = hashlib.file_digest(
                            opened, "sha256"
                        ).hexdigest()
        return digests

    def unexpected(self, files: Mapping[str, str]) -> Iterator[Outcome]:
        """Yield the outcomes that should not exist, given what `files` says."""
        for job_id, events in self.outcomes.items():
            for event in events:
                if job_id not in self._intended or not self._holds(event, files):
                    yield event

    def _holds(self, event: Outcome, files: Mapping[str, str]) -> bool:
        if isinstance(event, DownloadFailed):
            return True
        return event.sha256 == self.digest(event.app_id, event.bill_file_name) == files.get(event.path)

    def partial(self, files: Mapping[str, str]) -> Iterator[str]:
        """Yield the files that should not exist, given what `files` says."""
        for path, sha256 in files.items():
            match path.split("/"):
                case [app_id, _, name] if not name.startswith(".") and sha256 != self.digest(app_id, name):
                    yield path
