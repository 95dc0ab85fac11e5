"""`ccfs-worker failed`: the failed jobs that are kept."""

import asyncio
from collections import Counter
from collections.abc import Collection, Container, Iterable
from contextlib import nullcontext
from datetime import datetime
from hashlib import sha256
from heapq import heappop, heappush
from pathlib import Path
from typing import Annotated

import typer
from aiolimiter import AsyncLimiter

from schemas import ErrorCode
from worker import wiring
from worker.broker.failed_jobs import Held, KeptJob, NoJobError
from worker.cli import terminal
from worker.cli.arguments import AllOption, AppOption, JobIdsArgument, YesOption
from worker.cli.exit_codes import FAILED
from worker.cli.failure_views import HEAD, describe, fields, row
from worker.cli.finished import Finished, shared_storage
from worker.cli.joblist import lines_of
from worker.cli.kept import Walk, facts
from worker.cli.manual import group
from worker.cli.quantities import parse_moment
from worker.cli.selection import LONG_AGO, Selection
from worker.cli.terminal import Output, OutputOption, QuietOption
from worker.errors import one_line

_LISTED = 1000
_OPTIONS = "--code, --app, --since or --older-than"

CodeOption = Annotated[
    list[ErrorCode] | None,
    typer.Option("--code", help="Only those that failed with it. Repeatable.", metavar="CODE"),
]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        metavar="AGE",
        parser=parse_moment,
        help="Only those that failed since then: 2h, 3d, or a time such as 2026-01-31T22:00Z.",
    ),
]
OlderThanOption = Annotated[
    datetime | None,
    typer.Option(
        "--older-than", metavar="AGE", parser=parse_moment, help="Only those that failed before then."
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="At most this many, roughly the oldest first.", min=1, show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show which jobs are selected.")]
OutcomesOption = Annotated[
    Path | None,
    typer.Option(
        "--outcomes",
        metavar="LIST",
        help="Events as JSON lines, as `ccfs-worker results -o json` writes them; - reads standard input. "
        "A job with a completed event after its failure counts as completed.",
        show_default=False,
    ),
]


def list_(
    *,
    code: CodeOption = None,
    app: AppOption = None,
    since: SinceOption = None,
    older_than: OlderThanOption = None,
    limit: Annotated[int, typer.Option(help="Show the last ones, at most this many.", min=1)] = _LISTED,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """List the failed jobs, the newest last.

    They stay where they are. A line below the table counts all that are selected, by code and by account.
    As JSON, each has the fields of its event, its body, its headers and its priority, and the lines are a
    list of jobs for `submit`.

    Examples:
        ccfs-worker failed list --since 12h
        ccfs-worker failed list --code UNAUTHORIZED --app app1
        ccfs-worker failed list -o json | jq -r .errorMessage | sort | uniq -c
    """
    terminal.hush(quiet=quiet)
    newest: list[tuple[datetime, int, KeptJob]] = []
    codes: Counter[str] = Counter()
    apps: Counter[str] = Counter()

    async def collect(held: Held) -> bool:
        _, failed_with, app_id, when = facts(held.kept)
        codes[failed_with or "unreadable"] += 1
        apps[app_id or "no account"] += 1
        # The broker keeps no order among messages that were given back. Of equal times, the number decides: a
        # heap would compare the jobs themselves, which have no order.
        heappush(newest, (when or LONG_AGO, codes.total(), held.kept))
        if len(newest) > limit:
            heappop(newest)
        return True

    walk = Walk(Selection.of(codes=code, apps=app, since=since, before=older_than), collect)
    asyncio.run(walk.run())
    shown = [kept for _, _, kept in sorted(newest)]
    if output_format is Output.JSON:
        for kept in shown:
            terminal.json_line(fields(kept))
    else:
        now = wiring.now()
        terminal.table(HEAD, (row(kept, now) for kept in shown))
    by_code, by_app = (
        ", ".join(f"{n} {what}" for what, n in found.most_common(10)) for found in (codes, apps)
    )
    terminal.summary(
        f"{walk.meant:,} of {terminal.counted(walk.in_all, 'failed job')}"
        + (f": {by_code}; of {by_app}" if codes else "")
    )
    if walk.meant > len(shown):
        terminal.summary(f"shown are the last {len(shown)}; --limit shows more")
    walk.require_complete()


def show(
    *,
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", show_default=False)],
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Show a failed job whole.

    With the reason, its headers and its body. It stays where it is.

    Examples:
        ccfs-worker failed show app1/20260131_9239cb50.zip
        ccfs-worker failed show 4e1f --output json | jq -r .job
    """
    found: list[KeptJob] = []

    async def collect(held: Held) -> bool:
        found.append(held.kept)
        return False

    walk = Walk(Selection(job_ids=frozenset([job_id])), collect)
    asyncio.run(walk.run())
    for kept in found:
        if output_format is Output.JSON:
            terminal.json_line(fields(kept))
        else:
            terminal.line(describe(kept, wiring.now()))
    if not found:
        walk.require_complete()
    _require_found([job_id], {kept.job_id for kept in found})


def retry(
    *,
    job_ids: JobIdsArgument = None,
    code: CodeOption = None,
    app: AppOption = None,
    since: SinceOption = None,
    older_than: OlderThanOption = None,
    everything: AllOption = False,
    limit: LimitOption = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Jobs per second at most. Default: as fast as the broker takes them.",
            min=0.01,
            show_default=False,
        ),
    ] = None,
    outcomes: OutcomesOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Publish failed jobs again.

    They start over at their first attempt, under the same id, with the body, the headers and the priority
    that they had. One is removed here only once the broker has confirmed its job: if this is interrupted, a
    job may run twice, but none is lost.

    A job that completed since is left out, and stays here: `failed forget --completed` removes those. It
    counts as completed when its file lies under WORKER_STORAGE__ROOT, where that is set and mounted here, or
    when --outcomes has a later completed event of it.

    Examples:
        ccfs-worker failed retry app1/20260131_9239cb50.zip
        ccfs-worker failed retry --code UNAUTHORIZED --app app1 --rate 20
        ccfs-worker failed retry --all --dry-run
    """
    terminal.hush(quiet=quiet)
    selection = Selection.of(job_ids=job_ids, codes=code, apps=app, since=since, before=older_than)
    selection.require_meant(_OPTIONS, everything=everything)
    publishing = _Publishing(_finished(outcomes), rate, output_format, is_dry=dry_run)
    walk = Walk(selection, publishing, limit, rate)
    try:
        asyncio.run(walk.run())
    finally:
        publishing.sum_up()
    walk.require_complete()
    _require_found(job_ids or [], publishing.job_ids)
    if publishing.refused:
        raise typer.Exit(FAILED)


def forget(
    *,
    job_ids: JobIdsArgument = None,
    code: CodeOption = None,
    app: AppOption = None,
    since: SinceOption = None,
    older_than: OlderThanOption = None,
    everything: AllOption = False,
    completed: Annotated[
        bool, typer.Option("--completed", help="Only those that completed since; see `failed retry`.")
    ] = False,
    limit: LimitOption = None,
    outcomes: OutcomesOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Remove failed jobs for good; asks first.

    Their events are not touched.

    Examples:
        ccfs-worker failed forget --all --completed
        ccfs-worker failed forget --code FILE_NOT_FOUND --older-than 30d
        ccfs-worker failed forget --all --yes --output json > forgotten.jsonl
    """
    terminal.hush(quiet=quiet)
    selection = Selection.of(job_ids=job_ids, codes=code, apps=app, since=since, before=older_than)
    selection.require_meant(_OPTIONS, everything=everything)
    finished = _finished(outcomes) if completed else None
    looking = _Forgetting(finished, output_format if dry_run else None, only=None)
    walk = Walk(selection, looking, limit)
    asyncio.run(walk.run())
    if dry_run or not looking.ids:
        terminal.summary(f"{terminal.counted(len(looking.ids), 'failed job')} would be forgotten")
        walk.require_complete()
        return _require_found(job_ids or [], looking.job_ids)
    # The walk is over: nothing is held while the person thinks.
    asked = f"Forget {terminal.counted(len(looking.ids), 'failed job')} for good?"
    if not yes and not terminal.confirm(asked):
        raise typer.Exit(FAILED)
    # What failed meanwhile was not part of the question.
    forgetting = _Forgetting(None, output_format, only=looking.ids)
    try:
        asyncio.run(Walk(selection, forgetting).run())
    finally:
        terminal.summary(f"{terminal.counted(len(forgetting.ids), 'failed job')} forgotten")
    walk.require_complete()
    return _require_found(job_ids or [], looking.job_ids)


class _Publishing:
    """Publishes failed jobs again, and shows each. Leaves out those that have completed since.

    Attributes:
        job_ids: The jobs that were met.
        refused: How many cannot be published.
    """

    def __init__(
        self, finished: Finished, rate: float | None, output_format: Output, *, is_dry: bool
    ) -> None:
        self._finished = finished
        self._turn = nullcontext() if rate is None else AsyncLimiter(1, 1 / rate)
        self._output_format = output_format
        self._is_dry = is_dry
        self._published: set[tuple[str, bytes]] = set()
        self._completed = 0
        self.job_ids: set[str] = set()
        self.refused = 0

    async def __call__(self, held: Held) -> bool:
        """Publish one; gives whether it was."""
        kept = held.kept
        self.job_ids.add(kept.job_id)
        try:
            job = kept.job_id, sha256(held.body()).digest()
        except NoJobError as exc:
            self.refused += 1
            terminal.note(f"{one_line(kept.job_id)} stays where it is: {exc}")
            return False
        if kept.failure is not None and await self._finished.has(kept.failure):
            self._completed += 1
            return False
        if not self._is_dry and job in self._published:
            # It had failed twice, and its job is confirmed.
            held.forget()
        elif not self._is_dry:
            async with self._turn:
                await held.retry()
        self._published.add(job)
        _show(kept, "would be retried" if self._is_dry else "retried", self._output_format)
        return True

    def sum_up(self) -> None:
        """Say what was done, in numbers."""
        jobs = terminal.counted(len(self._published), "job")
        terminal.summary(f"{jobs} would be published" if self._is_dry else f"{jobs} published")
        if self._completed:
            terminal.summary(
                f"{terminal.counted(self._completed, 'job')} completed since and left out: "
                "`ccfs-worker failed forget --all --completed` removes those"
            )


class _Forgetting:
    """Removes failed jobs, or only finds those that it would remove.

    Args:
        finished: Finds jobs that have completed since: only those are meant. None means all.
        output_format: How to show each; None shows none.
        only: The ids to remove: what failed while a person was asked stays. None removes nothing.

    Attributes:
        ids: The ids of those that were removed, or would be.
        job_ids: Their jobs.
    """

    def __init__(
        self, finished: Finished | None, output_format: Output | None, *, only: Container[str] | None
    ) -> None:
        self._finished = finished
        self._output_format = output_format
        self._only = only
        self.ids: set[str] = set()
        self.job_ids: set[str] = set()

    async def __call__(self, held: Held) -> bool:
        """Remove one; gives whether it was meant."""
        kept = held.kept
        if self._finished and not (kept.failure and await self._finished.has(kept.failure)):
            return False
        if self._only is not None:
            if kept.id not in self._only:
                return False
            held.forget()
        self.ids.add(kept.id)
        self.job_ids.add(kept.job_id)
        if self._output_format is not None:
            _show(kept, "would be forgotten" if self._only is None else "forgotten", self._output_format)
        return True


def _show(kept: KeptJob, action: str, output_format: Output) -> None:
    if output_format is Output.JSON:
        terminal.json_line({**fields(kept), "action": action})
    else:
        code = kept.failure.error_code if kept.failure else "unreadable"
        terminal.verdict(ok=True, text=f"{one_line(kept.job_id)} ({code}) {action}")


def _finished(outcomes: Path | None) -> Finished:
    return Finished(shared_storage(), [] if outcomes is None else lines_of(outcomes))


def _require_found(wanted: Iterable[str], found: Collection[str]) -> None:
    """Name each job that was not there. Ends the command with 1 when there is one."""
    missing = sorted(set(wanted).difference(found))
    for job_id in missing:
        terminal.note(f"{job_id}: no such job failed, or it is kept no longer")
    if missing:
        raise typer.Exit(FAILED)


failed = group(
    "failed",
    "Look at the jobs that failed, publish them again, or forget them.",
    {"list": list_, "show": show, "retry": retry, "forget": forget},
)
