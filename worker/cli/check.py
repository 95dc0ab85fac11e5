"""`ccfs-worker check`: whether a worker could work here."""

import asyncio
from collections.abc import Collection
from typing import Annotated

import typer

from worker.cli import checks, output
from worker.cli.checks import Part
from worker.cli.exits import FAILED
from worker.cli.output import Output, OutputOption
from worker.finding import Finding


def check(
    only: Annotated[
        list[Part] | None,
        typer.Option(help="Only this part. Repeatable.", case_sensitive=False, show_default=False),
    ] = None,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Try out all that a worker depends on here.

    Settings, broker, storage, keys, CC-FS, clock: one line each, and what to do where something is wrong.
    Changes nothing: what is tried on the storage is removed again, and no job is taken. Ends with 1 when
    something is wrong.

    Examples:
        ccfs-worker check
        kubectl exec deploy/ccfs-worker -- ccfs-worker check
        ccfs-worker check --only storage --only keys
        ccfs-worker check --output json | jq 'select(.ok | not)'
    """
    all_ok = asyncio.run(_check(only or tuple(Part), output_format))
    if not all_ok:
        raise typer.Exit(FAILED)


async def _check(parts: Collection[Part], output_format: Output) -> bool:
    all_ok = True
    async for finding in checks.run_checks(parts):
        all_ok &= finding.ok
        _show(finding, output_format)
    return all_ok


def _show(finding: Finding, output_format: Output) -> None:
    if output_format is Output.JSON:
        output.json_line(
            {"name": finding.name, "ok": finding.ok, "detail": finding.detail, "remedy": finding.remedy}
        )
        return
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    output.verdict(ok=finding.ok, text=f"{finding.name}: {finding.detail}{remedy}")
