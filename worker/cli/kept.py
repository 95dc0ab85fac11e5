"""A walk through the failed jobs, for the commands that list, retry or forget those that are meant."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import typer
from rich.progress import Progress

from worker import wiring
from worker.broker.browse import HOLD_AT_MOST
from worker.broker.failed_jobs import FailedJobs, Held, KeptJob, open_failed_jobs
from worker.cli import terminal
from worker.cli.exit_codes import FAILED
from worker.cli.selection import Facts, Selection
from worker.settings import BrokerSettings, load_part

_CONCURRENT = 256
"""Jobs on their way to the broker: waiting for each confirm alone takes a millisecond or more."""

Act = Callable[[Held], Awaitable[bool]]
"""Does something with a failed job; gives whether it counts toward the limit."""


@dataclass(slots=True)
class Walk:
    """A walk through the queue, the oldest first, until all were seen that lay there in the beginning.

    A message must not be held for long: by default RabbitMQ closes its channel after 30 minutes. So a long
    walk goes in rounds: at the end of each it gives back what it holds.

    Attributes:
        selection: The jobs that are meant.
        act: What to do with each of them.
        limit: To how many of them; None for all.
        rate: Most of them a second; None for no bound. `act` waits its turn. The walk takes it into account
            to hold no more jobs than a second needs.
        hold_at_most: Seconds after which a round ends.
        in_all: How many lay there in the beginning.
        meant: How many of them were meant.
        done: For how many of them `act` gave True.
    """

    selection: Selection
    act: Act
    limit: int | None = None
    rate: float | None = None
    hold_at_most: float = HOLD_AT_MOST
    in_all: int = 0
    meant: int = 0
    done: int = 0
    _left: int | None = None
    _is_cut_short: bool = False
    _seen: set[str] = field(default_factory=set)
    """Ids of those that were meant. One that was left comes again in the next round."""

    async def run(self) -> None:
        """Walk.

        Raises:
            BrokerError: The broker could not be reached or went away, or another operator looks at the queue.
        """
        amqp = load_part(BrokerSettings).amqp
        names, timeout = wiring.names(amqp), amqp.publish_timeout
        async with wiring.broker_connection(amqp, "failed jobs") as opened:
            is_over = False
            while not is_over:
                async with open_failed_jobs(
                    opened, names, timeout=timeout, hold_at_most=self.hold_at_most
                ) as jobs:
                    is_over = not await self._round(jobs)
                    self._is_cut_short = jobs.was_cut_short and not self._is_over

    def require_complete(self) -> None:
        """See that all were looked at. Ends the command with 1 when the broker was too slow for that."""
        if self._is_cut_short:
            terminal.note(f"not all were looked at: RabbitMQ gave out too few within {self.hold_at_most:g} s")
            raise typer.Exit(FAILED)

    @property
    def _is_over(self) -> bool:
        return self.limit is not None and self.done >= self.limit

    async def _round(self, jobs: FailedJobs) -> bool:
        """Walk until messages were held for long enough; gives whether another round would find more."""
        if self._left is None:
            self.in_all = self._left = jobs.count
        with terminal.progress("failed jobs", self.in_all) as bar:
            bar.advance(bar.task_ids[0], self.in_all - self._left)
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._act_on_all(jobs, self._left, tasks, bar)
            except ExceptionGroup as group:
                # A TaskGroup wraps even a single error, and commands show those of our own classes.
                raise group.exceptions[0] from group
            finally:
                self._left -= jobs.removed
        # What was looked at and left comes first again.
        return jobs.was_cut_short and jobs.removed > 0 and not self._is_over

    async def _act_on_all(self, jobs: FailedJobs, left: int, tasks: asyncio.TaskGroup, bar: Progress) -> None:
        async def act(held: Held) -> None:
            self.done += await self.act(held)
            places.release()

        # One by one where more could come to be done than is wanted.
        places = asyncio.Semaphore(1 if self.limit else min(_CONCURRENT, math.ceil(self.rate or _CONCURRENT)))
        async with aclosing(jobs.take(left)) as taken:
            async for held in taken:
                bar.advance(bar.task_ids[0])
                if held.kept.id in self._seen or not self.selection.has(facts(held.kept)):
                    continue
                if held.kept.id:
                    self._seen.add(held.kept.id)
                await places.acquire()
                if self._is_over:
                    return
                self.meant += 1
                tasks.create_task(act(held))


def facts(kept: KeptJob) -> Facts:
    """What a failed job is selected by."""
    failure = kept.failure
    if failure is None:
        return Facts(kept.job_id, "", None, None)
    return Facts(failure.job_id, failure.error_code, failure.app_id, failure.finished_at)
