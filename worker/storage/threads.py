"""Blocking calls on threads of our own, each waited for even when whoever asked for it is cancelled.

A descriptor that is closed under a running write could already belong to another file.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Call(asyncio.Future[_T]):
    """The end of a call on a thread, which whoever awaits it outlasts.

    It refuses to be cancelled: a task that is cancelled while it waits goes on to the end, and only then
    hears of it (`Task.cancel`). `asyncio.shield` does the same with two futures more and a round of the loop.

    Attributes:
        stop: Set when it should have been cancelled, for the call to end early.
    """

    stop: threading.Event | None = None

    def cancel(self, msg: object | None = None) -> bool:  # noqa: ARG002 - the interface of Future
        """Ask the call to end early."""
        if self.stop is not None:
            self.stop.set()
        return False


class Threads(Executor):
    """Threads that give their results back to the event loop in batches.

    ThreadPoolExecutor makes two futures for a call, with locks of their own, and wakes the loop for each: as
    much work as many a call on a fast disk. Here a result waits beside others until the loop comes by.

    Args:
        number: How many threads; they start at once.
    """

    def __init__(self, number: int) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._is_loop_told = False
        self._is_shut = False
        # Daemons: should nobody shut them down, they keep no process from its end.
        self._threads = [
            threading.Thread(target=self._work, name="storage", daemon=True) for _ in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, call: Callable[[], _T]) -> Call[_T]:
        """Have a call run by a thread; all that is started must be of one event loop."""
        future: Call[_T] = Call(loop=asyncio.get_running_loop())
        self._take(partial(self._run, future, call))
        return future

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have a call run by a thread, for libraries that want an executor."""
        future: Future[_T] = Future()
        self._take(partial(_run_for_all, future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - the interface of Executor
        """Let the threads end once all is done that was asked for."""
        self._is_shut = True
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _take(self, call: Callable[[], None]) -> None:
        if self._is_shut:
            # It would never be run, and be waited for without end.
            raise RuntimeError("the threads were shut down")
        self._calls.put(call)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            # A file's bytes may hang on it; the next call may be long in coming.
            del call

    def _run(self, future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
        self._results.append((future, *_outcome(call)))
        # In this order: the loop takes the mark away before it takes results, so none is left lying.
        if not self._is_loop_told:
            self._is_loop_told = True
            self._tell(future.get_loop())

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # It is closed: nobody waits any more.
            self._is_loop_told = False

    def _deliver(self) -> None:
        self._is_loop_told = False
        while self._results:
            _settle(*self._results.popleft())


def _outcome(call: Callable[[], _T]) -> tuple[_T | None, BaseException | None]:
    try:
        return call(), None
    except StopIteration as exc:
        # No future takes it (PEP 479 has the same for generators).
        error = RuntimeError("a call on a thread raised StopIteration")
        error.__cause__ = exc
        return None, error
    except BaseException as exc:  # noqa: BLE001 - whoever waits gets to see it
        return None, exc


def _run_for_all(future: Future[Any], call: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        _settle(future, *_outcome(call))


def _settle(future: asyncio.Future[Any] | Future[Any], result: object, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def run(threads: Threads, call: Callable[[], _T]) -> _T:
    """Run a call on a thread; a cancellation comes after its end."""
    return await threads.start(call)


async def run_stoppable(threads: Threads, call: Callable[[threading.Event], _T]) -> _T:
    """Run a long call on a thread; the event that it is given is set when we are cancelled."""
    stop = threading.Event()
    future = threads.start(partial(call, stop))
    future.stop = stop
    return await future


async def to_the_end(awaitable: Awaitable[_T]) -> _T:
    """Await to the end even when cancelled in between; the cancellation comes after it."""
    future = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await outlast(future)
        raise


async def outlast(future: asyncio.Future[_T]) -> None:
    """Wait until a future is done, whatever its end and however often we are cancelled meanwhile."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
