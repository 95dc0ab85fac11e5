"""Watches CC-FS: pauses intake while it answers nothing at all, and for as long as a Retry-After asks."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from schemas import ErrorCode
from worker.core.gate import Gate
from worker.core.retry import backoff
from worker.errors import JobError

UPSTREAM = "upstream"
"""The reason under which intake pauses while CC-FS is silent."""
FLOW_CONTROL = "flow_control"
"""The reason under which intake pauses for as long as a Retry-After asks."""

_SILENT_CODES = frozenset({ErrorCode.UPSTREAM_UNREACHABLE, ErrorCode.TIMEOUT})
"""Errors that a silent CC-FS would cause, too."""
_PROBE_WAIT = 1.0
"""Seconds before the first probe: this to twice this. Each further wait is about twice as long."""

log = structlog.stdlib.get_logger(__name__)


class UpstreamWatch:
    """Counts failures without any answer; after a few in a row, pauses intake and sends one probe at a time.

    Implements `worker.core.ports.Watch`.

    Args:
        probe: Asks CC-FS for any answer at all; raises JobError when none comes.
        gate: Closed meanwhile.
        pause_after: Failures in a row that close it.
        longest_pause: The most seconds for which a Retry-After is obeyed.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        gate: Gate,
        *,
        pause_after: int,
        longest_pause: float,
    ) -> None:
        self._probe = probe
        self._gate = gate
        self._pause_after = pause_after
        self._longest_pause = longest_pause
        self._failures = 0
        self._is_silent = asyncio.Event()
        self._obeying: asyncio.TimerHandle | None = None

    @property
    def obeys_until(self) -> float | None:
        """The loop's time at which the last Retry-After ends; None when there was none."""
        return self._obeying.when() if self._obeying is not None else None

    async def run(self) -> None:
        """Probe whenever CC-FS has gone silent, until it answers."""
        while True:
            await self._is_silent.wait()
            await self._probe_until_answered()
            self._failures = 0
            self._is_silent.clear()
            self._gate.open(UPSTREAM)
            log.info("upstream.answers")

    async def failed(self, error: JobError) -> bool:
        """Say whether a download failed because CC-FS is silent; close the gate if so."""
        if error.http_status is not None or error.code is ErrorCode.UPSTREAM_ERROR:
            self._failures = 0
            self._obey(error)
            return False
        if error.code not in _SILENT_CODES or not error.asked:
            # CC-FS was not asked (no key, a slow volume): it neither ends the row of failures nor adds to it.
            return False
        self._failures += 1
        if self._failures >= self._pause_after:
            self._gate.close(UPSTREAM, error.message)
            self._is_silent.set()
        return self._is_silent.is_set()

    def succeeded(self) -> None:
        """End the row of failures: CC-FS answered."""
        self._failures = 0

    async def _probe_until_answered(self) -> None:
        attempts = 0
        while True:
            attempts += 1
            wait = backoff(attempts, random.random(), base=_PROBE_WAIT)
            reason = self._gate.reasons[UPSTREAM]
            log.warning("upstream.silent", reason=reason, probes=attempts - 1, probe_in=round(wait, 1))
            await asyncio.sleep(wait)
            try:
                await self._probe()
            except JobError as exc:
                self._gate.close(UPSTREAM, exc.message)
            else:
                return

    def _obey(self, error: JobError) -> None:
        """Pause intake for as long as a Retry-After asks.

        A refusal with a resultCode is the limit of one account, and the others go on.
        """
        if error.code is not ErrorCode.FLOW_CONTROL or error.result_code or not error.retry_after:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + min(error.retry_after, self._longest_pause)
        if self._obeying is not None:
            if self._obeying.when() >= until:
                # The longest one counts: a shorter one, sent later, must not let everybody in earlier.
                return
            self._obeying.cancel()
        self._gate.close(FLOW_CONTROL, f"CC-FS asked to stay away for {error.retry_after:g} s")
        self._obeying = loop.call_at(until, self._gate.open, FLOW_CONTROL)
