"""Keeps the worker in a session with RabbitMQ: opens the next one when one is lost, until the drain."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import structlog

from worker.broker import BrokerOptions, NewestPublisher, QueueState, Session, open_session
from worker.core.deliveries import Deliveries
from worker.core.gate import Gate
from worker.core.retry import backoff
from worker.errors import BrokerError

_CHECK_INTERVAL = 30.0
"""Seconds between two checks that the broker still knows our consumer."""
_SETTLED_AFTER = 30.0
"""Seconds of work after which a session counts as a success; one lost sooner adds to the backoff. The time to
open it does not count: without a leader of a queue, that alone takes longer."""
_STOP_TIMEOUT = 1.0
"""Seconds to wait, after the drain, until the broker has stopped delivering."""
_ABANDON_TIMEOUT = 4.0
"""Seconds in which a session that was being opened may close its connections; after that it is abandoned."""

_T = TypeVar("_T")

log = structlog.stdlib.get_logger(__name__)


class Supervisor:
    """Opens sessions one after another and lets jobs in while the gate is open.

    Args:
        options: The broker.
        deliveries: Handles what the broker delivers.
        gate: Jobs are taken while it is open.
        draining: Set when the worker is to end.
        grace: Seconds that jobs in flight then have to finish.
        on_session: Called for each session opened.
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
        self._working_since = math.inf

    def problem(self) -> str:
        """Why there is no session, as one line; empty when there is one."""
        # A session gives its reason as soon as it is lost, and is left a moment later.
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

    async def queues(self) -> dict[str, QueueState]:
        """Ask for the state of each queue.

        Raises:
            BrokerError: There is no session, or it was lost meanwhile.
        """
        if self._session is None:
            raise BrokerError(self._problem)
        return await self._session.queues()

    async def run(self) -> None:
        """Work until `draining` is set, then drain."""
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._draining.is_set():
            self._working_since = math.inf
            try:
                await self._hold_session()
            except BrokerError as exc:
                self._deliveries.drop_lost()
                failures = 1 if loop.time() - self._working_since > _SETTLED_AFTER else failures + 1
                self._problem = str(exc)
                wait = backoff(failures, random.random())
                log.warning("broker.unavailable", reason=self._problem, retry_in=round(wait, 1))
                await _first(self._draining.wait(), asyncio.sleep(wait))
        # Without a session nothing in flight can be settled: the broker has it back already.
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
            # Again: a connection that was dropped closes its channels a moment later.
            self._deliveries.drop_lost()
            log.info("broker.connected")
            self._on_session()
            self._session = session
            try:
                await self._work(session)
            except BrokerError as exc:
                # Now, since leaving a session whose connection is dead takes seconds.
                self._problem = str(exc)
                log.warning("broker.lost", reason=self._problem)
                raise
            finally:
                self._session = None

    async def _work(self, session: Session) -> None:
        while not self._draining.is_set():
            if self._gate.is_open:
                await _unless(self._draining, session.consume())
                self._works()
                await _first(
                    session.lost(), self._draining.wait(), self._gate.wait_closed(), self._watch(session)
                )
            else:
                log.warning("intake.paused", **self._gate.reasons)
                await _unless(self._draining, session.pause())
                self._works()
                await _first(session.lost(), self._draining.wait(), self._gate.wait_open())
                if self._gate.is_open:
                    log.info("intake.resumed")
            if session.is_lost:
                raise BrokerError(await session.lost())
        await self._drain(session)

    def _works(self) -> None:
        """The broker has done as told for the first time in this session."""
        self._working_since = min(self._working_since, asyncio.get_running_loop().time())

    async def _drain(self, session: Session) -> None:
        """Let jobs in hand finish within their grace, even if the broker does not answer to `stop`."""
        stopping = asyncio.create_task(session.stop())
        stopping.add_done_callback(_read_exception)
        await self._deliveries.drain(self._grace)
        await asyncio.wait({stopping}, timeout=_STOP_TIMEOUT)
        # For what the broker delivered before it stopped.
        await self._deliveries.drain(grace=0)

    async def _watch(self, session: Session) -> None:
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            await session.check()


async def _first(*waits: Coroutine[object, object, object]) -> None:
    """Wait until one of several is done, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _unless(event: asyncio.Event, work: Coroutine[object, object, _T]) -> _T | None:
    """Do some work, or abandon it when the event is set first, even if its cancellation hangs."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    task.add_done_callback(_read_exception)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        task.cancel()
        waiting.cancel()
    await asyncio.wait({task}, timeout=_ABANDON_TIMEOUT)
    return None


def _read_exception(task: "asyncio.Future[Any]") -> None:
    """Read the exception of an abandoned task: asyncio would report it as never retrieved."""
    if not task.cancelled():
        task.exception()
