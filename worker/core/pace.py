"""Limits concurrent downloads, in all and by account: fewer when CC-FS asks for it, more after successes.

The windows follow TCP's congestion control (RFC 5681). A request to slow down halves them. Each success adds
one, up to half of what was too much; from there each round of successes adds one. A window starts fully open:
operators set the concurrency that they expect CC-FS to bear.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from schemas import ErrorCode
from worker.errors import DeferredError, JobError

_WAITING_SHARE = 4
"""One place in four may be held by a job that waits for its account's turn. More go back to the broker,
so that jobs of other accounts, which are behind them in the queue, are delivered."""
_AHEAD = 2
"""Jobs that come back for each place that is freed: with fewer, places would stay free."""
_LONGEST_WAIT = 60.0
"""Seconds: other workers may have a place for the job sooner, and ours may be freed faster than expected."""
_LEAST_GAP = 0.002
"""Seconds between two jobs that come back: handling one costs about a quarter of that."""
_FIRST_HELD = 0.25
"""Estimate, in seconds, of how long a download holds its place, until one has ended."""
_SMOOTHING = 8
"""The latest download has a weight of one in eight in that estimate (as in RFC 6298)."""


class Window:
    """A limit between 1 and `most` that shrinks and grows.

    Args:
        most: The limit at the beginning, and the largest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(most)
        self._threshold = float(most)
        self._shrunk_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many downloads may run concurrently now."""
        return int(self._size)

    @property
    def is_whole(self) -> bool:
        """Whether it is fully open again."""
        return self._size >= self._most

    def grow(self, *, proved: bool = True) -> None:
        """Widen after a download that CC-FS did not ask to slow down.

        Args:
            proved: False when CC-FS was not asked. That ends the caution after an outage, and says nothing
                about what CC-FS bears: it widens only up to half of what was too much.
        """
        is_cautious = self._size < self._threshold
        if proved or is_cautious:
            self._size = min(self._most, self._size + (1.0 if is_cautious else 1.0 / self._size))

    def shrink(self, began: float, now: float) -> None:
        """Halve after CC-FS asked to slow down in its answer to a request that began at `began`.

        A burst of these answers to requests that ran concurrently counts once.
        """
        if began >= self._shrunk_at:
            self._size = self._threshold = max(1.0, self._size / 2)
            self._shrunk_at = now

    def collapse(self) -> None:
        """Begin again with one at a time, as after an outage."""
        if self._size > 1:
            self._threshold = self._size / 2
            self._size = 1.0


class DeferredReturns:
    """When the deferred jobs of one account come back, those that found no place: one after the other.

    If all came back together, most would find the places taken, go back again, and leave places free until
    they return. That work grows with the queue and gains nothing.
    """

    def __init__(self) -> None:
        self._last = float("-inf")

    def wait(self, gap: float, now: float) -> float:
        """Seconds until the next job comes back.

        Args:
            gap: Seconds between it and the one before.
            now: The time.
        """
        self._last = min(max(now, self._last) + gap, now + _LONGEST_WAIT)
        return self._last - now

    def are_over(self, now: float) -> bool:
        """Whether the last one has come back."""
        return self._last <= now


class Pace:
    """Gives each download its place.

    Args:
        concurrency: Most downloads that run concurrently.
        per_app: Most downloads of one account that run concurrently.
        patience: Seconds that a job waits here for a place before it goes back to the broker: a delivery held
            for longer than the broker's consumer timeout closes the channel.
        clock: Gives the time in seconds, monotonic.
    """

    def __init__(
        self, *, concurrency: int, per_app: int, patience: float, clock: Callable[[], float]
    ) -> None:
        self._per_app = min(per_app, concurrency)
        self._most_waiting = concurrency // _WAITING_SHARE
        self._patience = patience
        self._clock = clock
        self._window = Window(concurrency)
        self._app_windows: dict[str, Window] = {}
        self._returns: dict[str, DeferredReturns] = {}
        self._held = _FIRST_HELD
        self._running: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._why = ""

    @property
    def limit(self) -> int:
        """How many downloads may run concurrently now."""
        return self._window.limit

    @property
    def why_limited(self) -> str:
        """Why fewer downloads than configured may run now; empty when that is not so."""
        return "" if self._window.is_whole else self._why

    @asynccontextmanager
    async def place(self, app_id: str) -> AsyncIterator[None]:
        """Wait for a place and hold it.

        Raises:
            DeferredError: The account has its share already, or no place came free in time.
        """
        if self._is_free(app_id):
            self._running[app_id] += 1
        else:
            await self._wait(app_id)
        began = self._clock()
        try:
            yield
            self._held += (self._clock() - began - self._held) / _SMOOTHING
        finally:
            self._leave(app_id)

    def succeeded(self, app_id: str, *, reused: bool = False) -> None:
        """Go faster after a download that ended in its file.

        Args:
            app_id: The account.
            reused: The file was there, and CC-FS was not asked.
        """
        self._widen(app_id, proved=not reused)

    def failed(self, app_id: str, error: JobError, began: float) -> None:
        """Slow down if that is what CC-FS asks for; go faster after any other answer.

        An answer with a resultCode comes from CC-FS, which knows the account; any other from what stands
        before it, which sees only us.

        Args:
            app_id: The account.
            error: Why its download failed.
            began: When that download began, by the clock.
        """
        if error.code is not ErrorCode.FLOW_CONTROL:
            if error.http_status is not None:
                self._widen(app_id, proved=True)
        elif error.result_code is None:
            self._why = f"asked to slow down: {error.message}"
            self._window.shrink(began, self._clock())
        else:
            window = self._app_windows.setdefault(app_id, Window(self._per_app))
            window.shrink(began, self._clock())

    def collapse(self, why: str = "") -> None:
        """Begin again with one download at a time, after an outage.

        Args:
            why: What the outage was.
        """
        self._why = f"after an outage: {why}"
        self._window.collapse()

    def _widen(self, app_id: str, *, proved: bool) -> None:
        self._window.grow(proved=proved)
        if (window := self._app_windows.get(app_id)) is not None:
            window.grow(proved=proved)
            if window.is_whole:
                del self._app_windows[app_id]
        self._wake()

    def _is_free(self, app_id: str) -> bool:
        return self._running.total() < self._window.limit and self._running[app_id] < self._share(app_id)

    def _share(self, app_id: str) -> int:
        window = self._app_windows.get(app_id)
        return self._per_app if window is None else window.limit

    def _until_return(self, app_id: str) -> float:
        """Seconds after which a job of the account that is sent back now comes again."""
        now = self._clock()
        if app_id not in self._returns:
            self._returns = {name: late for name, late in self._returns.items() if not late.are_over(now)}
            self._returns[app_id] = DeferredReturns()
        gap = max(_LEAST_GAP, self._held / self._share(app_id) / _AHEAD)
        return self._returns[app_id].wait(gap, now)

    def _leave(self, app_id: str) -> None:
        self._running[app_id] -= 1
        if not self._running[app_id]:
            del self._running[app_id]
        self._wake()

    async def _wait(self, app_id: str) -> None:
        """Wait until `_wake` has given us a place."""
        has_share = self._running[app_id] < self._share(app_id)
        if not has_share and len(self._waiting) >= self._most_waiting:
            raise DeferredError("the account has its share of the downloads", wait=self._until_return(app_id))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = app_id
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except (TimeoutError, asyncio.CancelledError) as exc:
            # `_wake` may have given us the place in the same turn of the loop: it must not be lost.
            if self._waiting.pop(turn, None) is None:
                self._leave(app_id)
            if isinstance(exc, TimeoutError):
                raise DeferredError(f"no place came free within {self._patience:g} s") from None
            raise

    def _wake(self) -> None:
        """Give free places to those who wait, oldest first."""
        for turn, app_id in list(self._waiting.items()):
            if not turn.done() and self._is_free(app_id):
                del self._waiting[turn]
                self._running[app_id] += 1
                turn.set_result(None)
