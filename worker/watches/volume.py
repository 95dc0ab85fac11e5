"""Watches the volume: pauses intake while it is full, broken or silent, and sweeps what dead workers left."""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from schemas import ErrorCode
from worker.core.gate import Gate
from worker.errors import JobError
from worker.storage import Call, Look, SharedStorage, Space, StaleRootError, Sweep

STORAGE = "storage"
"""The reason under which intake pauses."""

_SWEEP_INTERVAL = 3600.0
_JITTER = 0.25
"""The interval varies by this part of it, so that workers started together do not sweep together."""
_REST = 9
"""After each step, the sweep rests 9 times as long as the step took: it takes a tenth of the time."""
_PROBLEMS_LOGGED = 5
_PROMPT = 2.0
"""Seconds that a failed job waits for a look at the volume: a hung one never answers."""
_UTC = "%Y-%m-%dT%H:%M:%SZ"
_VOLUME_CODES = frozenset({ErrorCode.STORAGE_FULL, ErrorCode.STORAGE_ERROR})
"""Errors after which the volume is in doubt."""

log = structlog.stdlib.get_logger(__name__)


class VolumeWatch:
    """Looks at the volume now and then, and immediately when a download could not be stored.

    A volume counts as silent when a look or a job's own call has waited `hang_after` seconds for it, or when
    a job was given up while its call had not returned. Looks do not pile up on a hung volume: the next one
    begins when the one before has returned. They have a thread of their own.

    As a rule a look only reads. After a job's storage error, and while intake is paused, the volume is in
    doubt: looks write a file, too, and only one that could ends the doubt. The server of an NFS mount may
    refuse all writes and show that in nothing else, and each job would burn its attempts.

    Implements `worker.core.ports.Watch`.

    Args:
        storage: The storage.
        gate: Closed while the volume cannot be used.
        clock: Gives the time, UTC.
        min_free_bytes: Bytes below which the volume counts as full.
        check_interval: Seconds between two looks.
        hang_after: Seconds without an answer after which the volume counts as silent.
        stale_after: Seconds after which an untouched temporary file is removed.

    Attributes:
        space: What the volume had at the last look; all NaN while that is unknown.
        stale: Why no process can use the volume's mount any more; empty while one can.
    """

    def __init__(
        self,
        storage: SharedStorage,
        gate: Gate,
        *,
        clock: Callable[[], datetime],
        min_free_bytes: int,
        check_interval: float,
        hang_after: float,
        stale_after: float,
    ) -> None:
        self._storage = storage
        self._gate = gate
        self._clock = clock
        self._min_free_bytes = min_free_bytes
        self._check_interval = check_interval
        self._hang_after = hang_after
        self._stale_after = stale_after
        self._looking: Call[Look] | None = None
        self._is_doubted = False
        self._silent_since: datetime | None = None
        self.space = Space()
        self.stale = ""

    @property
    def silence(self) -> float:
        """Seconds since the oldest call that still waits for the volume began; 0 when none waits."""
        return self._storage.silence

    @property
    def hung_threads(self) -> int:
        """Threads whose call has not returned although its job was given up."""
        return self._storage.hung_threads

    async def run(self) -> None:
        """Look at the volume every `check_interval` seconds."""
        while True:
            await self._look()
            await asyncio.sleep(self._check_interval)

    async def sweep_hourly(self) -> None:
        """Remove old temporary files now, and then about every hour."""
        sweep = self._storage.new_sweep(self._stale_after)
        while True:
            await self._sweep(sweep)
            await asyncio.sleep(_SWEEP_INTERVAL * random.uniform(1 - _JITTER, 1 + _JITTER))

    async def failed(self, error: JobError) -> bool:
        """Say whether a download failed because the volume cannot be used; close the gate if so."""
        if error.code is ErrorCode.TIMEOUT:
            # A job whose call hangs fails by its own deadline: nothing in its error names the volume.
            await self._look()
            return self._silent_since is not None
        if error.code not in _VOLUME_CODES:
            return False
        # The volume may be usable again by now although it was not when this download failed.
        was_out = STORAGE in self._gate.reasons
        self._is_doubted = True
        is_answered = await self._look()
        if error.code is ErrorCode.STORAGE_FULL or not (is_answered or self._silent_since):
            # A look does not show that a file is larger than what is left: the next one opens the gate again,
            # and one download finds out. A look that takes its time may end in the same error, as on a soft
            # mount whose server is gone.
            self._close(error.message)
        return was_out or STORAGE in self._gate.reasons

    def succeeded(self) -> None:
        """Do nothing: one stored file says little about the next one. The looks decide."""

    async def _look(self) -> bool:
        """Look at the volume; give whether it answered within a moment."""
        while True:
            looking = self._looking = self._looking or self._storage.look(write=self._is_doubted)
            await asyncio.wait([looking], timeout=min(self._hang_after, _PROMPT))
            silence = self._storage.silence
            if silence >= self._hang_after or self._storage.hung_threads:
                self._note_silence(silence)
            elif looking.done() and looking is self._looking:
                self._note_answer(looking)
            if not looking.done():
                return False
            if looking is self._looking:
                self._looking = None
            if not self._is_doubted or STORAGE in self._gate.reasons:
                return True
            # It began before the doubt, and did not write.

    def _note_silence(self, seconds: float) -> None:
        self.space = Space()
        if self._silent_since is None:
            self._silent_since = self._clock() - timedelta(seconds=seconds)
            log.error("storage.hangs", since=f"{self._silent_since:{_UTC}}")
        detail = f"storage: the volume does not answer since {self._silent_since:{_UTC}}"
        self._close(detail)

    def _note_answer(self, looking: Call[Look]) -> None:
        if self._silent_since is not None:
            log.warning("storage.answers", silent_since=f"{self._silent_since:{_UTC}}")
            self._silent_since = None
        try:
            look = looking.result()
        except JobError as exc:
            self.space = Space()
            self._note_stale(exc.message if isinstance(exc, StaleRootError) else "")
            self._close(exc.message)
            return
        self.space = look.space
        self._note_stale("")
        free = int(self.space.free_bytes)
        if free < self._min_free_bytes:
            self._close(
                f"storage: {free} bytes are free, and {self._min_free_bytes} are to stay free "
                "(WORKER_STORAGE__MIN_FREE_BYTES)"
            )
        elif look.refusal:
            self._close(look.refusal)
        elif look.is_tried:
            self._is_doubted = False
            self._gate.open(STORAGE)

    def _note_stale(self, reason: str) -> None:
        if reason and not self.stale:
            log.error("storage.stale", reason=reason)
        self.stale = reason

    def _close(self, detail: str) -> None:
        self._is_doubted = True
        self._gate.close(STORAGE, detail)

    async def _sweep(self, sweep: Sweep) -> None:
        clock = asyncio.get_running_loop().time
        sweep.begin()
        began = clock()
        try:
            while await self._storage.sweep_on(sweep):
                await asyncio.sleep(_REST * (clock() - began))
                began = clock()
        except JobError as exc:
            sweep.problems.append(exc.message)
        if sweep.removed:
            log.info("storage.swept", removed=sweep.removed)
        if problems := sweep.problems:
            log.warning(
                "storage.sweep_failed", count=len(problems), reason="; ".join(problems[:_PROBLEMS_LOGGED])
            )
