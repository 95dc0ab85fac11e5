"""An event loop that runs what is ready in an order chosen by a seed, in virtual time.

asyncio runs callbacks in the order in which they became ready. A test on it sees one of the orders that a
busy worker sees, always the same. Here each callback that is ready may be the next, and timers that fall due
together fire in any order. No code may rely on more than that. What this finds:

- code that takes for granted that a done callback, or another waiter, has run already;
- a cancellation that meets a result, and what it leaves behind;
- a coroutine that waits for what nothing will bring (`StuckError`);
- a coroutine that never yields, or yields without time passing (`FrozenError`): heartbeats and signals stop.

Time stands still while anything is ready and then jumps to the next timer: an hour of waiting costs nothing.
"""

import asyncio
import contextvars
import random
import selectors
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

_MOST_STEPS = 20_000
"""Callbacks that may run without time passing; a run of the net takes fewer in all."""
_CPU_SECONDS = 2.0
"""CPU time of one run, about a hundred times of what it takes; it is the only bound on a coroutine that never
yields, and counts CPU so that a busy machine does not matter."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class StuckError(Exception):
    """Nothing is ready and no timer is set, but the run is not over."""


class FrozenError(Exception):
    """The loop has worked without end and no time has passed."""


class ShuffledLoop(asyncio.SelectorEventLoop):
    """Picks the next callback by a seed; see the module.

    Args:
        seed: Chooses the order.
        laggards: The share of callbacks that run only when no other is left: a shuffle alone seldom holds
            one back for long.
    """

    def __init__(self, seed: int, *, laggards: float = 0.0) -> None:
        self._clockwork = _Clockwork(self._idle)
        super().__init__(self._clockwork)
        self._random = random.Random(seed)
        self._laggards = laggards
        self._bag: list[_Ready] = []
        self._late: list[_Ready] = []
        self._steps_now = 0
        self.steps = 0
        """Callbacks run: a clock that also tells apart what happens at one moment."""
        self.breach: BaseException | None = None
        """Ends the run with this, once set: what is raised in a task would only end that task."""
        self._is_clearing = False
        self.set_task_factory(_numbered(count()))

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._clockwork.now

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Put a callback among those of which one is picked."""
        ready = _Ready(callback, args, self, context)
        (self._late if self._random.random() < self._laggards else self._bag).append(ready)
        # The base class runs one pick for each callback, whichever it is.
        super().call_soon(self._run_one)
        return ready

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Put a callback there once its time has come."""
        context = context or contextvars.copy_context()

        def due() -> None:
            self.call_soon(fire)

        def fire() -> None:
            if not timer.cancelled():
                context.run(callback, *args)

        timer = super().call_at(when, due)
        return timer

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end.

        Raises:
            FrozenError: The loop works without end.
            StuckError: It waits without end.
            BaseException: `breach`, or whatever the coroutine raised.
        """
        try:
            with _at_most(_CPU_SECONDS, self._freeze):
                return self.run_until_complete(main)
        finally:
            self._clear_away()
            self.close()

    def _clear_away(self) -> None:
        """Cancel what a run that ended in its middle has left, so that nothing of it is heard later."""
        self._is_clearing = True
        while tasks := asyncio.all_tasks(self):
            self.set_exception_handler(lambda *_: None)
            for task in tasks:
                task.cancel()
            with suppress(FrozenError), _at_most(_CPU_SECONDS, self._freeze):
                self.run_until_complete(asyncio.wait(tasks))

    def _run_one(self) -> None:
        self.steps += 1
        self._steps_now += 1
        if self._steps_now > _MOST_STEPS and self.breach is None:
            self.breach = FrozenError(f"{_MOST_STEPS} callbacks ran and no time passed")
        bag = self._bag or self._late
        index = int(self._random.random() * len(bag))
        bag[index], bag[-1] = bag[-1], bag[index]
        ready = bag.pop()
        if not ready.cancelled():
            ready.run()

    def _idle(self, seconds: float | None) -> None:
        """Hear from the base class that nothing is ready for so long; None is for ever."""
        if self.breach is not None and not self._is_clearing:
            raise self.breach
        if seconds is None:
            raise StuckError("nothing is ready and no timer is set")
        if seconds > 0:
            self._steps_now = 0

    def _freeze(self) -> None:
        self.breach = FrozenError(f"one run took {_CPU_SECONDS:g} s of CPU: a coroutine does not yield")
        raise self.breach


class _Ready(asyncio.Handle):
    """A callback that may run now; the base class keeps to itself what it would run."""

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[object, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.run = partial((context or contextvars.copy_context()).run, callback, *args)


class _Clockwork(selectors.SelectSelector):
    """Waits for no descriptor: moves the time on instead."""

    def __init__(self, idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self.now = 0.0
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._idle(timeout)
        self.now += max(0.0, timeout or 0.0)
        return []


class _NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number: a set of tasks has the same order each time a seed is run."""

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


def _numbered(numbers: Iterator[int]) -> Callable[..., asyncio.Task[Any]]:
    def make(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        return _NumberedTask(next(numbers), coroutine, loop=loop, **options)

    return make


@contextmanager
def _at_most(cpu_seconds: float, then: Callable[[], None]) -> Iterator[None]:
    def strike(_signal: int, _frame: FrameType | None) -> None:
        then()

    before = signal.signal(signal.SIGVTALRM, strike)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
