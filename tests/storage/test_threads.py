"""Threads give every result back to the task that waits for it, and survive whatever a call does."""

import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import pytest

from worker.storage import Call, Threads
from worker.storage.stop import Stop

T = TypeVar("T")


async def result(call: Call[T]) -> T:
    return await call


@pytest.fixture
def threads() -> Iterator[Threads]:
    with Threads(3) as threads:
        yield threads


async def test_each_caller_gets_its_own_result(threads: Threads) -> None:
    """However many are concurrent, and in whatever order they are done."""
    numbers = await asyncio.gather(*(threads.start(partial(int, number)) for number in range(2000)))

    assert numbers == [*range(2000)]


async def test_an_error_goes_to_its_caller_and_the_thread_goes_on() -> None:
    with Threads(1) as thread:
        with pytest.raises(SystemExit):
            await thread.start(sys.exit)

        assert await thread.start(lambda: 1) == 1


async def test_an_error_that_no_future_takes_comes_in_another(threads: Threads) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        async with asyncio.timeout(30):
            await threads.start(partial(next, iter(())))


async def test_as_many_calls_run_concurrently_as_there_are_threads(threads: Threads) -> None:
    barrier = threading.Barrier(3)

    numbers = await asyncio.gather(*(threads.start(lambda: barrier.wait(60)) for _ in range(3)))

    assert sorted(numbers) == [0, 1, 2]


@pytest.mark.parametrize("error", [None, OSError("in vain")])
async def test_a_cancelled_caller_waits_until_the_call_is_over(
    threads: Threads, error: Exception | None
) -> None:
    """However often, and whatever comes of the call."""
    begun, release, over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(60)
        over.set()
        if error is not None:
            raise error

    waiting = asyncio.create_task(result(threads.start(work)))
    await threads.start(begun.wait)
    for _ in range(3):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    release.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert over.is_set()


async def test_a_cancelled_task_goes_on_without_a_call_that_hangs(threads: Threads) -> None:
    """The thread is counted as left behind until the call returns, and then serves others again."""
    release = threading.Event()
    call = threads.start(release.wait)
    waiting = asyncio.create_task(result(call))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(60):
            await waiting

    assert threads.hung == 1
    assert threads.silence > 0
    release.set()
    await call.returned()
    barrier = threading.Barrier(3)
    await asyncio.gather(*(threads.start(lambda: barrier.wait(60)) for _ in range(3)))
    assert threads.hung == 0


async def test_what_was_given_up_before_its_turn_is_not_begun() -> None:
    """It would open a file that nobody closes."""
    release = threading.Event()
    begun: list[int] = []
    with Threads(1) as thread:
        first = thread.start(release.wait)
        waiting = asyncio.create_task(result(thread.start(partial(begun.append, 1))))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        release.set()
        await first
        await thread.start(lambda: None)

    assert begun == []


async def test_threads_that_hang_do_not_hold_up_the_end() -> None:
    release = threading.Event()
    with Threads(2) as threads:
        threads.start(release.wait)

    assert threads.running == 1
    release.set()


async def test_a_call_that_shows_signs_of_life_does_not_hang() -> None:
    """Such as the check of a file of gigabytes."""
    at_work = threading.Barrier(2)

    def work(stop: Stop) -> None:
        at_work.wait(60)
        at_work.wait(60)
        stop.is_set()
        at_work.wait(60)
        at_work.wait(60)

    with Threads(1) as thread:
        working = thread.start_stoppable(work)
        await asyncio.to_thread(at_work.wait, 60)
        begun = time.monotonic()
        assert thread.silence > 0
        for _ in range(2):
            await asyncio.to_thread(at_work.wait, 60)
        assert 0 < thread.silence < time.monotonic() - begun
        await asyncio.to_thread(at_work.wait, 60)
        await working


async def test_a_call_that_nobody_waits_for_any_more_harms_nobody(threads: Threads) -> None:
    release = threading.Event()
    forgotten = threads.start(release.wait)
    forgotten.cancel()
    release.set()

    assert await threads.start(lambda: 1) == 1


async def test_a_long_call_is_asked_to_stop_when_cancelled(threads: Threads) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(stop: Stop) -> None:
        begun.set()
        while not stop.is_set():
            # A step of its work: it looks between two of them.
            time.sleep(0.001)
        ended.set()

    waiting = asyncio.create_task(result(threads.start_stoppable(work)))
    await threads.start(begun.wait)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await threads.start(partial(ended.wait, 30))


def test_a_call_that_outlasts_its_loop_leaves_the_threads_usable() -> None:
    release = threading.Event()

    async def leave(thread: Threads) -> None:
        thread.start(release.wait)

    async def use(thread: Threads) -> int:
        return await thread.start(lambda: 1)

    with Threads(1) as thread:
        asyncio.run(leave(thread))
        release.set()

        assert asyncio.run(use(thread)) == 1


async def test_at_the_end_what_was_asked_for_is_done() -> None:
    done: list[int] = []
    with Threads(2) as threads:
        for number in range(100):
            threads.start(partial(done.append, number))

    assert sorted(done) == [*range(100)]


async def test_after_the_end_no_call_is_accepted() -> None:
    with Threads(1) as threads:
        pass

    with pytest.raises(RuntimeError):
        threads.start_stoppable(print)
    with pytest.raises(RuntimeError):
        threads.start(print)


async def test_an_idle_thread_keeps_nothing_of_its_last_call() -> None:
    """A megabyte for each of them would count."""

    class Large:
        def use(self) -> None: ...

    freed = threading.Event()
    with Threads(1) as thread:
        large = Large()
        weakref.finalize(large, freed.set)
        await thread.start(large.use)
        del large

        assert freed.wait(60)
