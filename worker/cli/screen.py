"""What `ccfs-worker top` puts on the terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.cli import status_tables
from worker.cli.status_tables import StatusAnswer
from worker.errors import one_line

_FEWEST_JOBS = 3


def frame(answers: Sequence[StatusAnswer], height: int | None = None) -> RenderableType:
    """The whole screen.

    Args:
        answers: What the workers said.
        height: Lines of the terminal; jobs beyond them are only counted.
    """
    statuses = [answer.status for answer in answers if answer.status is not None]
    held = [(status.host, job) for status in statuses for job in status.jobs]
    held.sort(key=lambda entry: -entry[1].seconds)
    problems = [Text(one_line(f"✗ {problem}"), style="red") for problem in _problems(answers)]
    queues, codes = status_tables.queues(statuses), status_tables.codes(statuses)
    between = Table.grid(padding=(0, 4))
    between.add_row(*(table for table in (queues, codes) if table.row_count))
    used = 6 + len(answers) + len(problems) + max(queues.row_count, codes.row_count)
    shown = held if height is None else held[: max(_FEWEST_JOBS, height - used)]
    jobs = status_tables.jobs(shown) if held else Text("Nothing in flight.", style="dim")
    rest = [Text(f"and {len(held) - len(shown)} more", style="dim")] if len(held) > len(shown) else []
    return Group(status_tables.workers(answers), *problems, "", between, "", jobs, *rest)


def _problems(answers: Sequence[StatusAnswer]) -> Iterator[str]:
    """What is wrong, a line each."""
    for url, status, problem in answers:
        if status is None:
            yield f"{url} {problem}"
        else:
            failed = ((name, check.detail) for name, check in status.checks.items() if not check.ok)
            yield from (f"{status.host} {name}: {detail}" for name, detail in failed)
