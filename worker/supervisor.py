"""Keeps the worker in a session with RabbitMQ: opens the next one when one is lost, until told to drain."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import structlog

from worker.broker import BrokerOptions, NewestPublisher, Session, open_session
from worker.core.deliveries import Deliveries
from worker.core.gate import Gate
from worker.core.retry import backoff
from worker.errors import BrokerError

_CHECK_INTERVAL = 30.0
"""Seconds between two looks at whether the broker still knows our consumer."""
_SETTLED_AFTER = 30.0
"""Seconds after which a session counts as a success; one lost sooner adds to the backoff."""
_STOP_TIMEOUT = 1.0
"""Seconds that are waited, after the drain, for the broker to say that it sends nothing more."""
_ABANDON_TIMEOUT = 4.0
"""Seconds in which a session that is being opened may close its connections, before it is left to itself."""

_T = TypeVar("_T")

log = structlog.stdlib.get_logger(__name__)


class Supervisor:
    """Opens sessions one after another and lets jobs in while the gate is open.

    Args:
        options: The broker.
        deliveries: Takes them in.
        gate: Says whether new jobs are taken.
        draining: Is set when the worker shall end.
        grace: Seconds that what is in flight then has to finish.
        on_session: Is called at each session opened.
    """

    def __init__(
        self,
        options: BrokerOptions,
        *,
        deliveries: Deliveries,
        gate: Gate,
        draining: asyncio.Event,
        grace: float,
        on_session: Callable[[], None],
    ) -> None:
        self._options = options
        self._deliveries = deliveries
        self._gate = gate
        self._draining = draining
        self._grace = grace
        self._on_session = on_session
        self._newest_publisher = NewestPublisher()
        self._session: Session | None = None
        self._problem = "not connected yet"

    def problem(self) -> str:
        """Why there is no session, as one line; empty when there is one."""
        # A lost one is told at once, and left a moment later.
        return self._problem if self._session is None else self._session.loss

    def pause(self) -> str:
        """Why the session takes no jobs, as one line; empty when it does."""
        if self._draining.is_set():
            return "draining"
        if reasons := self._gate.reasons:
            return "; ".join(f"paused: {detail}" for detail in reasons.values())
        if self._session is not None and self._session.consuming:
            return ""
        obstacle = "" if self._session is None else self._session.obstacle
        return f"not consuming: {obstacle}" if obstacle else "not consuming"

    async def queue_lengths(self) -> dict[str, int]:
        """Count, by queue, the messages that wait to be delivered.

        Raises:
            BrokerError: There is no session, or it was lost meanwhile.
        """
        if self._session is None:
            raise BrokerError(self._problem)
        return await self._session.queue_lengths()

    async def run(self) -> None:
        """Work until told to drain, then drain."""
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._draining.is_set():
            started = loop.time()
            try:
                await self._hold_session()
            except BrokerError as exc:
                failures = 1 if loop.time() - started > _SETTLED_AFTER else failures + 1
                self._problem = str(exc)
                wait = backoff(failures, random.random())
                log.warning("broker.unavailable", reason=self._problem, retry_in=round(wait, 1))
                await _first(self._draining.wait(), asyncio.sleep(wait))
        # Without a session nothing that is in flight can be settled any more.
        await self._deliveries.drain(grace=0)

    async def _hold_session(self) -> None:
        opening = open_session(
            self._options,
            on_job=self._deliveries.receive,
            on_dropped=self._deliveries.receive_dropped,
            newest=self._newest_publisher,
        )
        async with AsyncExitStack() as stack:
            session = await _unless(self._draining, stack.enter_async_context(opening))
            if session is None:
                return
            log.info("broker.connected")
            self._on_session()
            self._session = session
            try:
                await self._work(session)
            except BrokerError as exc:
                # Said at once: leaving a session whose line is dead takes its time.
                self._problem = str(exc)
                log.warning("broker.lost", reason=self._problem)
                raise
            finally:
                self._session = None

    async def _work(self, session: Session) -> None:
        while not self._draining.is_set():
            if self._gate.is_open:
                await _unless(self._draining, session.consume())
                await _first(
                    session.lost(), self._draining.wait(), self._gate.wait_closed(), self._watch(session)
                )
            else:
                log.warning("intake.paused", **self._gate.reasons)
                await _unless(self._draining, session.pause())
                await _first(session.lost(), self._draining.wait(), self._gate.wait_open())
                if self._gate.is_open:
                    log.info("intake.resumed")
            if session.is_lost:
                raise BrokerError(await session.lost())
        await self._drain(session)

    async def _drain(self, session: Session) -> None:
        """Let what is in hand finish within its grace, whatever becomes of the request to send no more."""
        stopping = asyncio.create_task(session.stop())
        stopping.add_done_callback(_look_at)
        await self._deliveries.drain(self._grace)
        await asyncio.wait({stopping}, timeout=_STOP_TIMEOUT)
        # What came until the broker heard of it.
        await self._deliveries.drain(grace=0)

    async def _watch(self, session: Session) -> None:
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            await session.check(self._options.prefetch - self._deliveries.in_flight)


async def _first(*waits: Coroutine[object, object, object]) -> None:
    """Wait until the first of several is done; the others are dropped."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _unless(event: asyncio.Event, work: Coroutine[object, object, _T]) -> _T | None:
    """Do some work, or drop it when an event comes first, however it hangs."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    task.add_done_callback(_look_at)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        task.cancel()
        waiting.cancel()
    await asyncio.wait({task}, timeout=_ABANDON_TIMEOUT)
    return None


def _look_at(task: "asyncio.Future[Any]") -> None:
    """Keep asyncio from reporting the error of something that is not waited for any more."""
    if not task.cancelled():
        task.exception()
