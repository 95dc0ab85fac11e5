"""Blocking calls on threads of our own, which may outlast the tasks that wait for them.

A call of a volume that hangs cannot be ended (a hard NFS mount waits for its server without a bound). A task
that is cancelled waits a moment for its call, so that as a rule nothing of it is left when the task is over.
Then it goes on, and leaves the call behind on its thread.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from worker.storage.stop import Stop

PATIENCE = 1.0
"""Seconds that a cancelled task waits for its call."""

_JOIN = 0.5
"""Seconds that the end of a program waits for its threads."""

_T = TypeVar("_T")


class Call(asyncio.Future[_T]):
    """Future of a call on a thread. Cancelling it does not end the call.

    A task that is cancelled while it awaits one is cancelled when the call has returned, or `PATIENCE`
    seconds later. A descriptor that is closed under a running write could already belong to another file:
    what the call works on must not be touched before `returned`.

    Attributes:
        stop: Asks the call to end early.
    """

    def __init__(self, stop: Stop) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.stop = stop
        self._leaving: asyncio.TimerHandle | None = None
        self._has_returned = asyncio.Event()

    def cancel(self, msg: object | None = None) -> bool:  # noqa: ARG002 - the interface of Future
        """Ask the call to end early, and have the task go on without it if it does not return soon."""
        self.stop.set()
        if self._leaving is None and not self.done():
            self._leaving = self.get_loop().call_later(PATIENCE, super().cancel)
        return False

    async def returned(self) -> None:
        """Wait until no thread works on it any more, however long that takes; its error is dropped."""
        await self._has_returned.wait()
        if not self.cancelled():
            # asyncio logs an error that nobody has looked at.
            self.exception()

    def settle(self, result: Any, error: BaseException | None) -> None:  # noqa: ANN401 - whatever the call gave
        """Take what came of it."""
        self._has_returned.set()
        if self._leaving is not None:
            self._leaving.cancel()
        if self.cancelled():
            return
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)


class Threads:
    """Threads that give their results back to the event loop in batches.

    ThreadPoolExecutor makes two futures for a call, with locks of their own, and wakes the loop for each: as
    much work as many a call on a fast disk. Here a result waits beside others until the loop comes by.

    Threads that are left behind are not replaced: each of them holds a call of the volume that hangs, and
    more threads would only hang beside them. Intake pauses meanwhile (`worker.watches.volume`).

    Args:
        number: How many threads; they start immediately.
    """

    def __init__(self, number: int) -> None:
        self._calls: SimpleQueue[tuple[Call[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._at_work: set[Call[Any]] = set()
        """Calls that threads are in. Copy it before use: threads change it at any time."""
        self._results: deque[tuple[Call[Any], Any, BaseException | None]] = deque()
        self._is_loop_told = False
        self._is_shut = False
        # Daemons: one that hangs keeps no process from its end.
        self._threads = [
            threading.Thread(target=self._work, name="storage", daemon=True) for _ in range(number)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def hung(self) -> int:
        """How many threads hold a call that nobody waits for any more."""
        return sum(call.cancelled() for call in self._at_work.copy())

    @property
    def running(self) -> int:
        """How many threads have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life of the call that has given none for longest; 0 without any.

        Calls that wait for a thread do not count.
        """
        now = time.monotonic()
        return max((now - call.stop.seen_at for call in self._at_work.copy()), default=0.0)

    def start(self, call: Callable[[], _T]) -> Call[_T]:
        """Run a call on a thread. All calls must come from one event loop."""
        return self._start(call, Stop())

    def start_stoppable(self, call: Callable[[Stop], _T]) -> Call[_T]:
        """Run a long call on a thread; the `Stop` that it is given is set when its task is cancelled."""
        stop = Stop()
        return self._start(partial(call, stop), stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the threads end after the calls that were started; wait half a second for them at most."""
        self._is_shut = True
        for _thread in self._threads:
            self._calls.put(None)
        end = time.monotonic() + _JOIN
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))

    def _start(self, call: Callable[[], _T], stop: Stop) -> Call[_T]:
        if self._is_shut:
            # It would never run, and its task would wait for ever.
            raise RuntimeError("the threads were shut down")
        future: Call[_T] = Call(stop)
        self._calls.put((future, call))
        return future

    def _work(self) -> None:
        while (task := self._calls.get()) is not None:
            self._run(*task)
            # It may keep a file's bytes in memory until the next call, which may be long in coming.
            del task

    def _run(self, future: Call[Any], call: Callable[[], Any]) -> None:
        future.stop.seen_at = time.monotonic()
        self._at_work.add(future)
        # What was given up before its turn came is not begun: it would open a file that nobody closes.
        result, error = (None, None) if future.cancelled() else _outcome(call)
        self._at_work.discard(future)
        self._results.append((future, result, error))
        # In this order: the loop takes the mark away before it takes results, so none is left lying.
        if not self._is_loop_told:
            self._is_loop_told = True
            try:
                future.get_loop().call_soon_threadsafe(self._deliver)
            except RuntimeError:
                # It is closed: nobody waits any more.
                self._is_loop_told = False

    def _deliver(self) -> None:
        self._is_loop_told = False
        while self._results:
            future, result, error = self._results.popleft()
            future.settle(result, error)


def _outcome(call: Callable[[], _T]) -> tuple[_T | None, BaseException | None]:
    # Its frame stays on the traceback of an error: with the future in it, there would be a cycle that keeps a
    # file's bytes until the garbage collector comes by.
    try:
        return call(), None
    except StopIteration as exc:
        # No future takes it (PEP 479 has the same for generators).
        error = RuntimeError("a call on a thread raised StopIteration")
        error.__cause__ = exc
        return None, error
    except BaseException as exc:  # noqa: BLE001 - it is raised where the call is awaited
        return None, exc


async def outlast(future: asyncio.Future[Any], seconds: float) -> None:
    """Wait until a future is done, for some seconds at most. A cancellation is raised after that."""
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    cancellation: asyncio.CancelledError | None = None
    while not future.done() and (left := end - clock()) > 0:
        try:
            await asyncio.wait([future], timeout=left)
        except asyncio.CancelledError as exc:
            cancellation = exc
    if cancellation is not None:
        raise cancellation
