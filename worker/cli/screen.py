"""What `ccfs-worker top` puts on the terminal."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.cli import status_tables
from worker.cli.quantities import age
from worker.cli.status_tables import StatusAnswer
from worker.errors import one_line
from worker.observe.status import Status

_FEWEST_JOBS = 3
_NARROWEST = 20


def frame(answers: Sequence[StatusAnswer], width: int, height: int | None = None) -> RenderableType:
    """The whole screen.

    Args:
        answers: What the workers said.
        width: Columns of the terminal; reasons are wrapped, figures that find no place are left out.
        height: Lines of the terminal; jobs beyond them are only counted.
    """
    statuses = [answer.status for answer in answers if answer.status is not None]
    held = [(status.host, job) for status in statuses for job in status.jobs]
    held.sort(key=lambda entry: -entry[1].seconds)
    problems = _wrapped(_problems(answers), width, style="red")
    notes = _wrapped(_notes(statuses), width, style="yellow")
    queues, codes = status_tables.queues(statuses), status_tables.codes(statuses)
    between = Table.grid(padding=(0, 4))
    between.add_row(*(table for table in (queues, codes) if table.row_count))
    used = 6 + len(answers) + len(problems) + len(notes) + max(queues.row_count, codes.row_count)
    shown = held if height is None else held[: max(_FEWEST_JOBS, height - used)]
    nothing = "Nothing in flight." if statuses else "No worker answers."
    jobs = status_tables.jobs(shown, width) if held else Text(nothing, style="dim" if statuses else "red")
    rest = [Text(f"and {len(held) - len(shown)} more", style="dim")] if len(held) > len(shown) else []
    return Group(status_tables.workers(answers, width), *problems, *notes, "", between, "", jobs, *rest)


def _problems(answers: Sequence[StatusAnswer]) -> Iterator[str]:
    """What is wrong, a line each."""
    for url, status, problem in answers:
        if status is None:
            yield f"✗ {url} {problem}"
        else:
            failed = ((name, check.detail) for name, check in status.checks.items() if not check.ok)
            yield from (f"✗ {status.host} {name}: {detail}" for name, detail in failed)


def _notes(statuses: Sequence[Status]) -> Iterator[str]:
    """What makes workers slow, a line each."""
    for status in statuses:
        intake = status.intake
        if intake.limit_reason:
            places = f"up to {intake.concurrency_limit} of {intake.concurrency}"
            yield f"• {status.host} {places}: {intake.limit_reason}"
        for account in status.accounts:
            if (hold := account.held) is not None:
                since = age((status.now - hold.since).total_seconds())
                yield (
                    f"• {status.host} holds {account.app_id} for {since}, {hold.waiting:,} jobs: "
                    f"{hold.error_code}: {hold.reason}"
                )


def _wrapped(lines: Iterable[str], width: int, *, style: str) -> list[Text]:
    return [
        Text(part, style=style)
        for line in lines
        for part in textwrap.wrap(one_line(line), max(width, _NARROWEST), subsequent_indent="  ")
    ]
