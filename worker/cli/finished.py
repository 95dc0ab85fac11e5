"""What is known of jobs that completed after they had failed: by their file, or by their event.

Neither can be asked of the broker: events lie in queues of their consumers, and looking there would take them
from those for a while.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from schemas import DownloadCompleted, DownloadJob, FailedJob, read_outcome
from worker.cli import terminal
from worker.cli.daemon import in_daemon_thread
from worker.core.paths import final_path
from worker.settings import SettingsError, StorageSettings, load_part

_PATIENCE = 10.0
"""Seconds that the volume may take for one look."""


def shared_storage() -> Path | None:
    """The storage root if it can be used here; else None, and a line that says so."""
    try:
        root = load_part(StorageSettings).storage.root
    except SettingsError as exc:
        terminal.note(f"files are not looked at: {exc.lines[0]}")
        return None
    return root


class Finished:
    """Tells whether a job has completed since it failed.

    Args:
        root: The shared storage; None when it cannot be used here.
        events: Lines of JSON in which completed events are searched; what is none is left out.
    """

    def __init__(self, root: Path | None, events: Iterable[str]) -> None:
        self._root = root
        self._completed: dict[tuple[str, str], DownloadCompleted] = {}
        for line in events:
            with suppress(ValueError):
                event = read_outcome(line.encode())
                if isinstance(event, DownloadCompleted):
                    self._completed[event.app_id, event.bill_file_name] = event

    async def has(self, failure: FailedJob) -> bool:
        """Whether its file is there, or a completed event says so that is later than its failure."""
        if failure.app_id is None or failure.bill_file_name is None:
            return False
        completed = self._completed.get((failure.app_id, failure.bill_file_name))
        if completed is not None and completed.finished_at >= failure.finished_at:
            return True
        if self._root is None:
            return False
        job = DownloadJob(app_id=failure.app_id, bill_file_name=failure.bill_file_name)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await in_daemon_thread((self._root / final_path(job)).is_file)
        except (TimeoutError, OSError) as exc:
            why = str(exc) or f"{self._root} does not answer within {_PATIENCE:g} s"
            terminal.note(f"files are not looked at from here on: {why}")
            self._root = None
            return False
