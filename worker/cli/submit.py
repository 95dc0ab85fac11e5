"""`ccfs-worker submit`: jobs into the queue, and their outcomes as they come."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from schemas import DownloadJob
from worker import wiring
from worker.broker import Names
from worker.broker.connection import AmqpConnection
from worker.broker.follow import follow
from worker.broker.submission import Submission, check_jobs_queue, submit_all
from worker.cli import terminal
from worker.cli.arguments import EvenAloneOption
from worker.cli.exit_codes import FAILED, SETTINGS, TIMEOUT
from worker.cli.joblist import lines_of, read_list, read_pair
from worker.cli.outcome_lines import read_outcomes, show
from worker.cli.terminal import Output, OutputOption, QuietOption
from worker.errors import one_line
from worker.settings import AmqpGroup, BrokerSettings, load_part


def submit(
    *,
    app_id: Annotated[
        str | None, typer.Argument(metavar="APP_ID", help="The account.", show_default=False)
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Names of its files: yyyyMMdd_{responseId}.zip.", show_default=False
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="LIST",
            help="A list of jobs instead, - for standard input: CSV with the columns appId and billFileName, "
            "or JSON lines with fields called so.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the outcomes as they come; end with 1 when a job failed.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for the outcomes; then end with 4.", min=0.001)
    ] = 3600,
    priority: Annotated[
        int | None,
        typer.Option(
            help="Its priority. RabbitMQ 3.10 ignores it, 4.0 to 4.2 know two levels (high is from 5 on), "
            "4.3 takes the highest first.",
            min=0,
            max=255,
            show_default=False,
        ),
    ] = None,
    even_if_nobody_else: EvenAloneOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the jobs, and say what would be published.")
    ] = False,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Publish download jobs, every one confirmed by the broker.

    All jobs are checked before the first is published: a wrong one is named with its line, and none is
    published. Each gets an id of its own, which its outcome carries. JSON lines that `results` printed are a
    list of jobs, too. So is the worker's log: of that, the jobs that failed.

    Examples:
        ccfs-worker submit app1 20260131_9239cb50.zip
        ccfs-worker submit --from jobs.csv --wait
        ccfs-worker submit --from - --output json < jobs.jsonl
    """
    terminal.hush(quiet=quiet)
    submissions = [Submission(str(uuid.uuid4()), job, priority) for job in _jobs(app_id, files or [], source)]
    if dry_run:
        for submission in submissions:
            _show(submission, output_format)
        terminal.summary(f"{terminal.counted(len(submissions), 'job')} would be published")
        return
    amqp = load_part(BrokerSettings).amqp
    batch = _Batch(
        amqp,
        submissions,
        output_format,
        patience=timeout if wait else None,
        even_if_nobody_else=even_if_nobody_else,
    )
    if code := asyncio.run(batch.run()):
        raise typer.Exit(code)


def _jobs(app_id: str | None, files: list[str], source: Path | None) -> list[DownloadJob]:
    if (source is None) == (app_id is None) or (app_id is None) == bool(files):
        raise typer.BadParameter("give either an APP_ID and its FILEs, or a list with --from")
    if app_id is not None:
        rows = [read_pair(number, app_id, name) for number, name in enumerate(files, 1)]
    else:
        rows = list(read_list(lines_of(source)))
    wrong = [row for row in rows if row.defect]
    for row in wrong:
        place = f"{source}:{row.line}" if source else files[row.line - 1]
        terminal.note(one_line(f"{place}: {row.defect}"))
    if wrong:
        verb = "is" if len(wrong) == 1 else "are"
        terminal.note(
            f"nothing was published: {len(wrong)} of {terminal.counted(len(rows), 'job')} {verb} wrong"
        )
        raise typer.Exit(SETTINGS)
    return [row.job for row in rows if row.job is not None]


def _show(submission: Submission, output_format: Output) -> None:
    job = submission.job
    if output_format is Output.JSON:
        terminal.json_line({"jobId": submission.job_id, **job.model_dump(by_alias=True)})
    else:
        terminal.line(f"{submission.job_id}  {job.app_id}  {job.bill_file_name}")


@dataclass
class _Batch:
    """Jobs on their way.

    Attributes:
        patience: Seconds to wait for the outcomes; None waits for none.
        even_if_nobody_else: Wait for them although they may have no other queue.
    """

    amqp: AmqpGroup
    submissions: Sequence[Submission]
    output_format: Output
    patience: float | None
    even_if_nobody_else: bool
    confirmed: int = 0

    async def run(self) -> int:
        """Publish, and wait for the outcomes if asked to; gives the exit code."""
        names = wiring.names(self.amqp)
        async with wiring.broker_connection(self.amqp, "submit") as opened:
            await check_jobs_queue(opened, names, timeout=self.amqp.publish_timeout)
            if self.patience is None:
                await self._publish(opened, names)
                return 0
            apps = {submission.job.app_id for submission in self.submissions}
            keys = [f"{status}.{app_id}" for app_id in apps for status in ("completed", "failed")]
            # Before the first job is published: its outcome may come immediately.
            async with follow(
                opened,
                names,
                keys,
                declares=self.amqp.declare,
                even_if_nobody_else=self.even_if_nobody_else,
                timeout=self.amqp.publish_timeout,
            ) as bodies:
                await self._publish(opened, names)
                return await self._wait(bodies, self.patience)

    async def _publish(self, opened: AmqpConnection, names: Names) -> None:
        total = len(self.submissions)
        try:
            with terminal.progress("publishing", total) as bar:

                def on_confirmed(submission: Submission) -> None:
                    self.confirmed += 1
                    bar.advance(bar.task_ids[0])
                    if self.patience is None:
                        _show(submission, self.output_format)

                timeout = self.amqp.publish_timeout
                await submit_all(opened, names, self.submissions, timeout=timeout, on_confirmed=on_confirmed)
        finally:
            terminal.summary(
                f"{self.confirmed} of {terminal.counted(total, 'job')} published to {names.jobs}"
            )

    async def _wait(self, bodies: AsyncIterator[bytes], patience: float) -> int:
        waiting = {submission.job_id for submission in self.submissions}
        failed = 0
        with terminal.progress("waiting", len(waiting)) as bar, suppress(TimeoutError):
            async with asyncio.timeout(patience), aclosing(read_outcomes(bodies)) as outcomes:
                while waiting:
                    outcome = await anext(outcomes)
                    # Of the same account, but of another job; or the second event of a job (at least once).
                    if outcome.job_id not in waiting:
                        continue
                    waiting.remove(outcome.job_id)
                    failed += outcome.status == "failed"
                    show(outcome, self.output_format)
                    bar.advance(bar.task_ids[0])
        done = len(self.submissions) - len(waiting)
        terminal.summary(f"{done - failed} completed, {failed} failed, {len(waiting)} without an outcome yet")
        return TIMEOUT if waiting else FAILED if failed else 0
