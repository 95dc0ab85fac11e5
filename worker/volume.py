"""Watches the storage volume: pauses intake while it is full or missing, and sweeps what dead pods left."""

import asyncio
import math

import structlog

from schemas import ErrorCode
from worker.errors import JobError
from worker.gate import Gate
from worker.storage import Storage

STORAGE = "storage"
"""The reason under which intake pauses."""

_SWEEP_INTERVAL = 3600.0
_CODES = frozenset({ErrorCode.STORAGE_FULL, ErrorCode.STORAGE_ERROR})

log = structlog.stdlib.get_logger(__name__)


class VolumeWatch:
    """Looks at the volume now and then, and at once when a download could not be stored.

    Implements `worker.downloads.Watch`.

    Args:
        storage: The storage.
        gate: Is closed while the volume cannot be used.
        min_free_bytes: Bytes below which the volume counts as full.
        check_interval: Seconds between two looks.
        stale_after: Seconds after which an untouched temporary file is removed.
    """

    def __init__(
        self,
        storage: Storage,
        gate: Gate,
        *,
        min_free_bytes: int,
        check_interval: float,
        stale_after: float,
    ) -> None:
        self._storage = storage
        self._gate = gate
        self._min_free_bytes = min_free_bytes
        self._check_interval = check_interval
        self._stale_after = stale_after
        self.free_bytes: float = math.nan

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self._look()
            await asyncio.sleep(self._check_interval)

    async def sweep_hourly(self) -> None:
        """Remove stale temporary files now and then every hour."""
        while True:
            try:
                if removed := await self._storage.sweep(self._stale_after):
                    log.info("storage.swept", removed=removed)
            except JobError as exc:
                log.warning("storage.sweep_failed", reason=exc.message)
            await asyncio.sleep(_SWEEP_INTERVAL)

    async def failed(self, error: JobError) -> bool:
        """Say whether a download failed since the volume is full or missing; closes the gate if so."""
        if error.code not in _CODES:
            return False
        # It may be usable again by now, but was not when this download failed.
        was_out = STORAGE in self._gate.reasons
        await self._look()
        if error.code is ErrorCode.STORAGE_FULL:
            # A quota, or a file larger than what is left: free space alone does not show it. The next
            # look opens the gate again and one download finds out.
            self._gate.close(STORAGE, error.message)
        return was_out or STORAGE in self._gate.reasons

    def succeeded(self) -> None:
        """A file stored says nothing about the next one: the looks decide."""

    async def _look(self) -> None:
        try:
            free = await self._storage.free_bytes()
        except JobError as exc:
            self.free_bytes = math.nan
            self._gate.close(STORAGE, exc.message)
            return
        self.free_bytes = free
        if free < self._min_free_bytes:
            detail = f"storage: {free} bytes are free and {self._min_free_bytes} are to stay free"
            self._gate.close(STORAGE, detail)
        else:
            self._gate.open(STORAGE)
