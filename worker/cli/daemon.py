"""Blocking calls that may hang for good, as on a volume that is gone."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon_thread(call: Callable[[], _T]) -> _T:
    """Run a blocking call on a thread that does not keep the process alive when it hangs."""
    future: Future[_T] = Future()
    # A running future cannot be cancelled: the thread may set a result after the caller has given up.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
