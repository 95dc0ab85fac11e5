"""`ccfs-worker results`: outcomes as they are published."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from schemas import DownloadFailed, ErrorCode, Outcome
from worker import wiring
from worker.broker.follow import follow
from worker.cli import terminal
from worker.cli.arguments import AppOption, EvenAloneOption
from worker.cli.outcome_lines import read_outcomes, show
from worker.cli.terminal import Output, OutputOption, QuietOption
from worker.settings import AmqpGroup, BrokerSettings, load_part


class OutcomeStatus(StrEnum):
    """The `status` of an outcome."""

    COMPLETED = "completed"
    FAILED = "failed"


def results(
    *,
    app: AppOption = None,
    status: Annotated[
        OutcomeStatus | None, typer.Option(help="Only outcomes with this status.", show_default=False)
    ] = None,
    code: Annotated[
        list[ErrorCode] | None,
        typer.Option("--code", help="Only failures with this error code. Repeatable.", show_choices=False),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="End after this many outcomes.", min=1, show_default=False)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="End after this many seconds.", min=0.001, show_default=False)
    ] = None,
    even_if_nobody_else: EvenAloneOption = False,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Follow outcomes live.

    Shows outcomes from now on until Ctrl-C; earlier ones are not shown. They are copies: other consumers of
    the results lose none. Refuses when there may be no other queue for them: it binds the results queue as a
    worker does, and cannot see what consumers have bound.

    Examples:
        ccfs-worker results --app app1
        ccfs-worker results --status failed --output json | tee failed.jsonl
        ccfs-worker submit --from failed.jsonl
    """
    terminal.hush(quiet=quiet)
    wanted = _Wanted(frozenset(app or ()), status, frozenset(code or ()))
    amqp = load_part(BrokerSettings).amqp
    with suppress(TimeoutError):
        asyncio.run(
            _follow(amqp, wanted, count, timeout, output_format, even_if_nobody_else=even_if_nobody_else)
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which outcomes to show."""

    apps: frozenset[str]
    status: OutcomeStatus | None
    codes: frozenset[ErrorCode]

    def keys(self) -> list[str]:
        """Binding keys: the broker sends what is wanted by account and status, and no more."""
        # Only failures have a code.
        status = OutcomeStatus.FAILED if self.codes else self.status
        statuses = [status] if status else list(OutcomeStatus)
        return [f"{status}.{app}" for status in statuses for app in self.apps or ("#",)]

    def __contains__(self, outcome: Outcome) -> bool:
        if not self.codes:
            return True
        return isinstance(outcome, DownloadFailed) and outcome.error_code in self.codes


async def _follow(
    amqp: AmqpGroup,
    wanted: _Wanted,
    count: int | None,
    timeout: float | None,
    output_format: Output,
    *,
    even_if_nobody_else: bool,
) -> None:
    names = wiring.names(amqp)
    async with (
        wiring.broker_connection(amqp, "results") as opened,
        follow(
            opened,
            names,
            wanted.keys(),
            declares=amqp.declare,
            even_if_nobody_else=even_if_nobody_else,
            timeout=amqp.publish_timeout,
        ) as bodies,
        aclosing(read_outcomes(bodies)) as outcomes,
    ):
        terminal.summary(f"following {names.results}; Ctrl-C ends it")
        async with asyncio.timeout(timeout):
            async for outcome in outcomes:
                if outcome not in wanted:
                    continue
                show(outcome, output_format)
                count = count and count - 1
                if count == 0:
                    return
