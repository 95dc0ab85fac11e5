"""Blocking calls on threads of our own, each waited for even when whoever asked for it is cancelled.

A descriptor that is closed under a running write could already belong to another file.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def run(executor: Executor, call: Callable[[], _T]) -> _T:
    """Run a call on a thread; a cancellation comes after its end."""
    return await to_the_end(asyncio.get_running_loop().run_in_executor(executor, call))


async def run_stoppable(executor: Executor, call: Callable[[threading.Event], _T]) -> _T:
    """Run a long call on a thread; the event that it is given is set when we are cancelled."""
    stop = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(executor, call, stop)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        await outlast(future)
        raise


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
