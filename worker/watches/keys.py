"""Watches the directory of keys: pauses intake while it does not answer."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from schemas import ErrorCode
from worker.ccfs.keys import Keyring, KeysSilentError
from worker.core.gate import Gate
from worker.errors import JobError
from worker.storage import Threads

KEYS = "keys"
"""The reason under which intake pauses."""

log = structlog.stdlib.get_logger(__name__)


class KeyWatch:
    """Pauses intake when a key could not be read in time, until the directory answers.

    A job that meets the silence is not to blame, and the next job would meet it too.
    Implements `worker.core.ports.Watch`.

    Args:
        keyring: The keys.
        reader: The thread that reads them.
        gate: Closed while the directory is silent.
        clock: Gives the time, UTC.
    """

    def __init__(
        self, keyring: Keyring, reader: Threads, gate: Gate, *, clock: Callable[[], datetime]
    ) -> None:
        self._keyring = keyring
        self._reader = reader
        self._gate = gate
        self._clock = clock
        self._is_silent = asyncio.Event()

    async def run(self) -> None:
        """Open the gate whenever the directory answers again."""
        while True:
            await self._is_silent.wait()
            await self._keyring.wait_for_answer()
            self._is_silent.clear()
            self._gate.open(KEYS)
            log.warning("keys.answer")

    async def failed(self, error: JobError) -> bool:
        """Say whether a download failed because the directory is silent; close the gate if so."""
        # The job's deadline may come before the bound of the read: the error is then a TIMEOUT of the job,
        # and only the thread that is still in its call shows why.
        is_given_up = error.code is ErrorCode.TIMEOUT and not error.asked and self._reader.hung > 0
        if not (isinstance(error, KeysSilentError) or is_given_up):
            return False
        if not self._is_silent.is_set():
            moment = self._clock() - timedelta(seconds=self._reader.silence)
            since = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
            log.error("keys.hang", since=since)
            self._gate.close(KEYS, f"the key directory does not answer since {since}")
            self._is_silent.set()
        return True

    def succeeded(self) -> None:
        """Do nothing: a job in hand can succeed with a key that was read before the silence."""
