"""A walk through the parked messages, for the commands that show, replay or discard those that are meant."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import typer

from worker import wiring
from worker.broker.dead_letters import DeadLetter, NotWholeError, Parked, open_dead_letters
from worker.cli import terminal
from worker.cli.exit_codes import FAILED
from worker.cli.selection import LONG_AGO, Facts
from worker.settings import BrokerSettings, load_part


@dataclass(slots=True)
class Seen:
    """What a walk through the queue saw.

    Attributes:
        chosen: The letters that were meant, the oldest first.
        refused: How many of those that were meant cannot be replayed.
        looked_at: How many were looked at.
        in_all: How many there were.
    """

    chosen: list[DeadLetter] = field(default_factory=list)
    refused: int = 0
    looked_at: int = 0
    in_all: int = 0

    def require_found(self, job_ids: Sequence[str]) -> None:
        """Name each job that is not parked. Ends the command with 1 when there is one."""
        missing = set(job_ids) - {letter.job.job_id for letter in self.chosen}
        for job_id in sorted(missing):
            terminal.note(f"{job_id}: no such message is parked")
        if missing:
            raise typer.Exit(FAILED)


def facts(letter: DeadLetter) -> Facts:
    """What a parked message is selected by."""
    return Facts(letter.job.job_id, letter.reason, letter.job.app_id, letter.since)


async def walk(
    wanted: Callable[[DeadLetter], bool],
    limit: int,
    act: Callable[[Parked], Awaitable[None]] | None = None,
) -> Seen:
    """Look at parked messages, and do something with those that are wanted.

    Args:
        wanted: Whether a letter is meant.
        limit: Look at this many at most.
        act: What to do with each that is meant. It raises NotWholeError to leave one as it is.

    Raises:
        BrokerError: The broker could not be reached or went away, or another operator looks at the queue.
    """
    amqp = load_part(BrokerSettings).amqp
    names = wiring.names(amqp)
    seen = Seen()
    async with (
        wiring.broker_connection(amqp, "dead letters") as opened,
        open_dead_letters(opened, names, timeout=amqp.publish_timeout) as letters,
        aclosing(letters.take(limit)) as taken,
    ):
        seen.in_all = letters.count
        with terminal.progress(names.dead, min(limit, letters.count)) as bar:
            async for parked in taken:
                bar.advance(bar.task_ids[0])
                seen.looked_at += 1
                if not wanted(parked.letter):
                    continue
                try:
                    if act is not None:
                        await act(parked)
                except NotWholeError as exc:
                    seen.refused += 1
                    terminal.note(f"{parked.letter.job.job_id} stays parked: {exc}")
                else:
                    seen.chosen.append(parked.letter)
    seen.chosen.sort(key=lambda letter: letter.since or LONG_AGO)
    if seen.looked_at < seen.in_all:
        terminal.note(f"looked at {seen.looked_at} of {seen.in_all}; --limit looks at more")
    return seen
