"""How commands speak: results on standard output, everything else on standard error.

Text is for people and may change; `--output json` is for scripts: one JSON object a line, with the names
that the messages of the contract have.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from textwrap import indent
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from worker.errors import one_line

_WIDE = 10_000
_SHOWN_BODY = 4096


class Output(StrEnum):
    """For whom to write."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="Text for people, or JSON lines for scripts.")
]


QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only results and what is wrong: no progress, no summary.")
]

_is_quiet = False


def hush(*, quiet: bool) -> None:
    """Leave out progress and summaries from here on, if that is wanted."""
    global _is_quiet  # noqa: PLW0603 - there is one terminal
    _is_quiet = quiet


@cache
def console(*, err: bool = False) -> Console:
    """The terminal; a pipe or file has no width that lines would have to be broken at.

    One for each stream: a bar makes way for what is printed by the console that it is on, and no other.
    """
    made = Console(stderr=err, highlight=False, soft_wrap=True)
    return made if made.is_terminal else Console(stderr=err, highlight=False, soft_wrap=True, width=_WIDE)


def note(text: str) -> None:
    """Tell a person something that is no result."""
    typer.echo(text, err=True)


def summary(text: str) -> None:
    """Tell a person what was done, in numbers; see `hush`."""
    if not _is_quiet:
        note(text)


def confirm(question: str) -> bool:
    """Ask a person; only a yes counts as one."""
    return Confirm.ask(question, console=console(err=True), default=False)


def line(text: str | Text) -> None:
    """Write a result that is a line."""
    if console().is_terminal:
        console().print(Text(text) if isinstance(text, str) else text)
    else:
        # Through rich, the lines of `failed retry` were a quarter of its CPU.
        typer.echo(str(text))


def json_line(fields: Mapping[str, object]) -> None:
    """Write a result for a script."""
    line(json.dumps(fields, ensure_ascii=False, default=_plain))


def new_table(*head: str, numbers: Iterable[str] = ()) -> Table:
    """An empty table: columns of text, then columns of numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        made.add_column(name)
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write results for a person, one a line; what others wrote is made printable."""
    made = new_table(*head)
    for column in made.columns:
        column.no_wrap, column.overflow = True, "ignore"
    for row in rows:
        made.add_row(*(Text(one_line(cell)) for cell in row))
    console().print(made)


def verdict(*, ok: bool, text: str, doubt: bool = False) -> None:
    """Write a result that is good or bad; one that is good with a warning where there is doubt."""
    good = Text("! ", style="yellow") if doubt else Text("✓ ", style="green")
    line((good if ok else Text("✗ ", style="red")) + Text(text))


def progress(description: str, total: int | None, *columns: ProgressColumn) -> Progress:
    """A bar on the terminal that the results go to, else on that of standard error, else nowhere.

    Args:
        description: What is counted.
        total: How far it goes; None while that is not known.
        columns: What it shows beside itself and the time left; by default the count.
    """
    shown_on = console() if console().is_terminal else console(err=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *(columns or [MofNCompleteColumn()]),
        TimeRemainingColumn(),
        console=shown_on,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=_is_quiet or not shown_on.is_terminal,
    )
    bar.add_task(description, total=total)
    return bar


def page(facts: Mapping[str, str], body: bytes | None) -> str:
    """A message for a person: a line for each fact, and the beginning of its body, JSON indented."""
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {one_line(value)}" for name, value in facts.items()]
    if body is None:
        return "\n".join(lines)
    try:
        # JSON escapes whatever could make a terminal do more than print.
        shown = json.dumps(json.loads(body), indent=2)[:_SHOWN_BODY]
    except (ValueError, RecursionError):
        # Deep nesting exhausts Python's parser.
        shown = one_line(body.decode(errors="backslashreplace"), _SHOWN_BODY)
    return "\n".join([*lines, indent(shown, "  ")])


def counted(number: int, what: str) -> str:
    """A number of things: `1 job`, `1,000 jobs`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def moment(when: datetime) -> str:
    """A point in time as the messages of the contract have it: RFC 3339, UTC."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)
