"""`ccfs-worker dead`: the parked messages."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

import typer

from worker import wiring
from worker.broker.dead_letters import DeadLetter, Parked
from worker.cli import terminal
from worker.cli.arguments import AllOption, AppOption, JobIdsArgument, YesOption
from worker.cli.exit_codes import FAILED
from worker.cli.letter_views import describe, fields, row
from worker.cli.manual import group
from worker.cli.parked import Seen, facts, walk
from worker.cli.quantities import parse_moment
from worker.cli.selection import Selection
from worker.cli.terminal import Output, OutputOption, QuietOption

ReasonOption = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="CODE", help="Only those parked for it: INVALID_JOB. Repeatable."),
]
OlderThanOption = Annotated[
    datetime | None,
    typer.Option(
        "--older-than", metavar="AGE", parser=parse_moment, help="Only those parked longer ago: 2h, 3d."
    ),
]
LimitOption = Annotated[int, typer.Option(help="Look at this many at most, roughly the oldest first.", min=1)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show which messages are selected.")]

_LIMIT = 10_000
_OPTIONS = "--reason, --app or --older-than"


def list_(
    *,
    reason: ReasonOption = None,
    app: AppOption = None,
    older_than: OlderThanOption = None,
    limit: LimitOption = _LIMIT,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """List the parked messages, the oldest first.

    They stay where they are.

    Examples:
        ccfs-worker dead list
        ccfs-worker dead list --reason INVALID_JOB --older-than 2h
    """
    terminal.hush(quiet=quiet)
    selection = Selection.of(codes=reason, apps=app, before=older_than)
    seen = asyncio.run(walk(_meant(selection), limit))
    if output_format is Output.JSON:
        for letter in seen.chosen:
            terminal.json_line(fields(letter))
    else:
        now = wiring.now()
        head = ("JOB", "REASON", "ACCOUNT", "FILE", "AGE", "DETAIL")
        terminal.table(head, (row(letter, now) for letter in seen.chosen))
    reasons = Counter(letter.reason or "no reason" for letter in seen.chosen)
    summary = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    terminal.summary(
        f"{len(seen.chosen)} of {terminal.counted(seen.in_all, 'parked message')}"
        + (f": {summary}" if summary else "")
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
    seen = asyncio.run(walk(_meant(Selection(job_ids=frozenset([job_id]))), limit))
    for letter in seen.chosen:
        if output_format is Output.JSON:
            terminal.json_line(fields(letter, whole=True))
        else:
            typer.echo(describe(letter, wiring.now()))
    seen.require_found([job_id])


def replay(
    *,
    job_ids: JobIdsArgument = None,
    reason: ReasonOption = None,
    app: AppOption = None,
    older_than: OlderThanOption = None,
    everything: AllOption = False,
    dry_run: DryRunOption = False,
    limit: LimitOption = _LIMIT,
    quiet: QuietOption = False,
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
    terminal.hush(quiet=quiet)
    selection = Selection.of(job_ids=job_ids, codes=reason, apps=app, before=older_than)
    selection.require_meant(_OPTIONS, everything=everything)
    seen = asyncio.run(walk(_meant(selection), limit, Parked.check_whole if dry_run else Parked.replay))
    _show_all("would be replayed" if dry_run else "replayed", seen, job_ids or [], output_format)
    if seen.refused:
        raise typer.Exit(FAILED)


def discard(
    *,
    job_ids: JobIdsArgument = None,
    reason: ReasonOption = None,
    app: AppOption = None,
    older_than: OlderThanOption = None,
    everything: AllOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    limit: LimitOption = _LIMIT,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Drop parked messages for good; asks first.

    Examples:
        ccfs-worker dead discard --reason INVALID_JOB --older-than 30d
        ccfs-worker dead discard --all --yes --output json > discarded.jsonl
    """
    terminal.hush(quiet=quiet)
    selection = Selection.of(job_ids=job_ids, codes=reason, apps=app, before=older_than)
    selection.require_meant(_OPTIONS, everything=everything)
    seen = asyncio.run(walk(_meant(selection), limit))
    if not dry_run and seen.chosen:
        # The walk is over: no message is held unacked while the person thinks.
        if not yes and not terminal.confirm(
            f"Drop {terminal.counted(len(seen.chosen), 'message')} for good?"
        ):
            raise typer.Exit(FAILED)
        # Messages that were parked meanwhile were not part of the question.
        seen = asyncio.run(walk(frozenset(seen.chosen).__contains__, limit, Parked.discard))
    _show_all("would be discarded" if dry_run else "discarded", seen, job_ids or [], output_format)


def _meant(selection: Selection) -> Callable[[DeadLetter], bool]:
    return lambda letter: selection.has(facts(letter))


def _show_all(what: str, seen: Seen, job_ids: Sequence[str], output_format: Output) -> None:
    for letter in seen.chosen:
        if output_format is Output.JSON:
            terminal.json_line({**fields(letter, whole=True), "action": what})
        else:
            terminal.verdict(ok=True, text=f"{letter.job.job_id} ({letter.reason or 'no reason'}) {what}")
    terminal.summary(f"{terminal.counted(len(seen.chosen), 'message')} {what}")
    seen.require_found(job_ids)


dead = group(
    "dead",
    "Look at the parked messages, put them back into the queue of jobs, or drop them.",
    {"list": list_, "show": show, "replay": replay, "discard": discard},
)
