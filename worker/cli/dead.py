"""`ccfs-worker dead`: the parked messages."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Container
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from worker import wiring
from worker.broker.dead_letters import DeadLetter, NotWholeError, Parked, open_dead_letters
from worker.cli import terminal
from worker.cli.exit_codes import FAILED
from worker.cli.letter_views import describe, fields, row
from worker.cli.manual import help_of
from worker.cli.terminal import Output, OutputOption
from worker.settings import BrokerSettings, load_part

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"(\d+)([smhd])")


def parse_age(text: str) -> float:
    """Read `90s`, `15m`, `2h`, `3d`; gives seconds.

    Raises:
        typer.BadParameter: It is none of these.
    """
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"{text}: must be a number and a unit, such as 90s, 15m, 2h or 3d")
    return float(found[1]) * _SECONDS[found[2]]


JobIdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="JOB_ID", help="Only these.", show_default=False)
]
ReasonOption = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="CODE", help="Only those parked for it: INVALID_JOB. Repeatable."),
]
AppOption = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="APP_ID", help="Only of this account. Repeatable."),
]
OlderThanOption = Annotated[
    float | None,
    typer.Option(
        "--older-than", metavar="AGE", parser=parse_age, help="Only those parked longer ago: 2h, 3d."
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Select all of them.")]
LimitOption = Annotated[int, typer.Option(help="Look at this many at most, roughly the oldest first.", min=1)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show which messages it would be.")]

_LIMIT = 10_000
_UNKNOWN = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selection:
    """Which messages are meant; what is empty selects all."""

    job_ids: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    apps: frozenset[str] = frozenset()
    parked_before: datetime | None = None

    def __contains__(self, letter: object) -> bool:
        return (
            isinstance(letter, DeadLetter)
            and (not self.job_ids or letter.job.job_id in self.job_ids)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.apps or letter.job.app_id in self.apps)
            and (
                self.parked_before is None or (letter.since is not None and letter.since < self.parked_before)
            )
        )


@dataclass(slots=True)
class _Seen:
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


def list_(
    *,
    reason: ReasonOption = None,
    app: AppOption = None,
    older_than: OlderThanOption = None,
    limit: LimitOption = _LIMIT,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """List the parked messages, the oldest first.

    They stay where they are.

    Examples:
        ccfs-worker dead list
        ccfs-worker dead list --reason INVALID_JOB --older-than 2h
    """
    selection = _selection(None, reason, app, older_than, everything=None)
    seen = asyncio.run(_walk(selection, limit))
    if output_format is Output.JSON:
        for letter in seen.chosen:
            terminal.json_line(fields(letter))
    else:
        now = wiring.now()
        head = ("JOB", "REASON", "ACCOUNT", "FILE", "AGE", "DETAIL")
        terminal.table(head, (row(letter, now) for letter in seen.chosen))
    reasons = Counter(letter.reason or "no reason" for letter in seen.chosen)
    summary = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    terminal.note(
        f"{len(seen.chosen)} of {seen.in_all} parked messages" + (f": {summary}" if summary else "")
    )


def show(
    *,
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", show_default=False)],
    limit: LimitOption = _LIMIT,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Show a parked message whole.

    Why it lies there, its headers, its body. It stays where it is.

    Examples:
        ccfs-worker dead show app1/20260131_9239cb50.zip
        ccfs-worker dead show 4e1f --output json | jq -r .body
    """
    seen = asyncio.run(_walk(_Selection(job_ids=frozenset([job_id])), limit))
    for letter in seen.chosen:
        if output_format is Output.JSON:
            terminal.json_line(fields(letter, whole=True))
        else:
            typer.echo(describe(letter, wiring.now()))
    _found_or_exit(seen, [job_id])


def replay(
    *,
    job_ids: JobIdsArgument = None,
    reason: ReasonOption = None,
    app: AppOption = None,
    older_than: OlderThanOption = None,
    everything: AllOption = False,
    dry_run: DryRunOption = False,
    limit: LimitOption = _LIMIT,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Put parked messages back into the queue of jobs.

    They start over there at their first attempt. A message is removed here only once the broker has confirmed
    its copy there: if this is interrupted, a job may run twice, but none is lost. An invalid job comes back
    unless the worker has learnt to read it. A message whose body was too large for a job stays here: only the
    beginning of it was kept.

    Examples:
        ccfs-worker dead replay app1/20260131_9239cb50.zip
        ccfs-worker dead replay --reason DELIVERY_LIMIT --dry-run
        ccfs-worker dead replay --all
    """
    selection = _selection(job_ids, reason, app, older_than, everything=everything)
    seen = asyncio.run(_walk(selection, limit, Parked.check_whole if dry_run else Parked.replay))
    _show_all("would be replayed" if dry_run else "replayed", seen, job_ids, output_format)
    if seen.refused:
        raise typer.Exit(FAILED)


def discard(
    *,
    job_ids: JobIdsArgument = None,
    reason: ReasonOption = None,
    app: AppOption = None,
    older_than: OlderThanOption = None,
    everything: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    dry_run: DryRunOption = False,
    limit: LimitOption = _LIMIT,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Drop parked messages for good; asks first.

    Examples:
        ccfs-worker dead discard --reason INVALID_JOB --older-than 30d
        ccfs-worker dead discard --all --yes --output json > discarded.jsonl
    """
    selection = _selection(job_ids, reason, app, older_than, everything=everything)
    seen = asyncio.run(_walk(selection, limit))
    if not dry_run and seen.chosen:
        # The walk is over: no message is held unacked while the person thinks.
        if not yes and not terminal.confirm(f"Drop {len(seen.chosen)} messages for good?"):
            raise typer.Exit(FAILED)
        # Messages that were parked meanwhile were not part of the question.
        seen = asyncio.run(_walk(frozenset(seen.chosen), limit, Parked.discard))
    _show_all("would be discarded" if dry_run else "discarded", seen, job_ids, output_format)


def _selection(
    job_ids: list[str] | None,
    reasons: list[str] | None,
    apps: list[str] | None,
    older_than: float | None,
    *,
    everything: bool | None,
) -> _Selection:
    """Make a selection; `everything`, unless None, says whether it may and must select all."""
    selection = _Selection(
        job_ids=frozenset(job_ids or ()),
        reasons=frozenset(reasons or ()),
        apps=frozenset(apps or ()),
        parked_before=None if older_than is None else wiring.now() - timedelta(seconds=older_than),
    )
    if everything is not None and everything != (selection == _Selection()):
        raise typer.BadParameter("say which: JOB_IDs, --reason, --app or --older-than, or else --all")
    return selection


async def _walk(
    wanted: Container[object], limit: int, act: Callable[[Parked], Awaitable[None]] | None = None
) -> _Seen:
    """Look at every parked message, and do something with those that are wanted."""
    amqp = load_part(BrokerSettings).amqp
    names = wiring.names(amqp)
    seen = _Seen()
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
                if parked.letter not in wanted:
                    continue
                try:
                    if act is not None:
                        await act(parked)
                except NotWholeError as exc:
                    seen.refused += 1
                    terminal.note(f"{parked.letter.job.job_id} stays parked: {exc}")
                else:
                    seen.chosen.append(parked.letter)
    seen.chosen.sort(key=lambda letter: letter.since or _UNKNOWN)
    if seen.looked_at < seen.in_all:
        terminal.note(f"looked at {seen.looked_at} of {seen.in_all}; --limit looks at more")
    return seen


def _show_all(what: str, seen: _Seen, job_ids: list[str] | None, output_format: Output) -> None:
    for letter in seen.chosen:
        if output_format is Output.JSON:
            terminal.json_line({**fields(letter, whole=True), "action": what})
        else:
            terminal.verdict(ok=True, text=f"{letter.job.job_id} ({letter.reason or 'no reason'}) {what}")
    terminal.note(f"{len(seen.chosen)} messages {what}")
    _found_or_exit(seen, job_ids or [])


def _found_or_exit(seen: _Seen, job_ids: list[str]) -> None:
    missing = set(job_ids) - {letter.job.job_id for letter in seen.chosen}
    for job_id in sorted(missing):
        terminal.note(f"{job_id}: no such message is parked")
    if missing:
        raise typer.Exit(FAILED)


dead = typer.Typer(
    name="dead",
    add_completion=False,
    help="Look at the parked messages, put them back into the queue of jobs, or drop them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "show": show,
    "replay": replay,
    "discard": discard,
}
for _name, _command in _COMMANDS.items():
    dead.command(_name, help=help_of(_command))(_command)
