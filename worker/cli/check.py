"""`ccfs-worker check`: tries out all that a worker depends on, and changes none of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import Annotated, TypeVar

import typer

from worker.cli import checks, terminal
from worker.cli.account_check import check_account
from worker.cli.exit_codes import FAILED
from worker.cli.terminal import Output, OutputOption
from worker.finding import Finding, wrong
from worker.settings import (
    BrokerSettings,
    CcfsSettings,
    CredentialsSettings,
    SettingsError,
    SigningSettings,
    Sourced,
    StorageSettings,
    load_part,
)

_Settings = TypeVar("_Settings", bound=Sourced)


class CheckedPart(StrEnum):
    """What can be checked for itself."""

    SETTINGS = "settings"
    BROKER = "broker"
    MEMBERS = "members"
    STORAGE = "storage"
    SPACE = "space"
    KEYS = "keys"
    CCFS = "CC-FS"


def check(
    only: Annotated[
        list[CheckedPart] | None,
        typer.Option(help="Only this part. Repeatable.", case_sensitive=False, show_default=False),
    ] = None,
    app: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            metavar="APP_ID",
            help="Also request a file that cannot exist, signed with this account's key. Repeatable.",
        ),
    ] = None,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Try out all that a worker depends on here.

    Settings, broker, members of its queues, storage, its free space, keys, CC-FS, clock: one line each, and
    what to do where something is wrong (✗) or could be safer (!). Changes nothing: what is tried on the
    storage is removed again, and no job is taken. Ends with 1 when something is wrong.

    Examples:
        ccfs-worker check
        kubectl exec deploy/ccfs-worker -- ccfs-worker check
        ccfs-worker check --only storage --only keys
        ccfs-worker check --only CC-FS --app app1
        ccfs-worker check --output json | jq 'select(.ok | not)'
    """
    all_ok = asyncio.run(_show_findings(run_checks(only or tuple(CheckedPart), app or ()), output_format))
    if not all_ok:
        raise typer.Exit(FAILED)


async def _show_findings(findings: AsyncIterator[Finding], output_format: Output) -> bool:
    """Show each finding as it comes; gives whether all are good."""
    all_ok = True
    async for finding in findings:
        all_ok &= finding.ok
        if output_format is Output.JSON:
            terminal.json_line(asdict(finding))
        else:
            remedy = f" → {finding.remedy}" if finding.remedy else ""
            text = f"{finding.name}: {finding.detail}{remedy}"
            terminal.verdict(ok=finding.ok, text=text, doubt=bool(finding.remedy))
    return all_ok


async def run_checks(
    parts: Collection[CheckedPart] = tuple(CheckedPart), apps: Iterable[str] = ()
) -> AsyncIterator[Finding]:
    """Check parts, and accounts, concurrently. The findings come part by part in a fixed order."""
    if CheckedPart.SETTINGS in parts:
        for finding in checks.check_settings():
            yield finding
    of_part = {
        CheckedPart.BROKER: partial(_findings, BrokerSettings, checks.check_broker),
        CheckedPart.MEMBERS: partial(_findings, BrokerSettings, checks.check_members),
        CheckedPart.STORAGE: partial(_findings, StorageSettings, checks.check_storage),
        CheckedPart.SPACE: partial(_findings, StorageSettings, checks.check_space),
        CheckedPart.KEYS: partial(_findings, CredentialsSettings, checks.check_keys),
        CheckedPart.CCFS: partial(_findings, CcfsSettings, checks.check_ccfs),
    }
    wanted = [check(part) for part, check in of_part.items() if part in parts]
    accounts = [
        _findings(SigningSettings, partial(check_account, app_id=app), f"account {app}") for app in apps
    ]
    running = [asyncio.create_task(check) for check in (*wanted, *accounts)]
    for task in running:
        for finding in await task:
            yield finding


async def _findings(
    settings: type[_Settings], check: Callable[[_Settings], Awaitable[list[Finding]]], part: str
) -> list[Finding]:
    try:
        loaded = load_part(settings)
    except SettingsError:
        # The settings' own part says what is wrong with them.
        return [wrong(part, "not tried", "mend its settings first")]
    try:
        async with asyncio.timeout(checks.PATIENCE):
            return await check(loaded)
    except TimeoutError:
        return [wrong(part, f"gave no answer within {checks.PATIENCE:g} s", "see whether it hangs")]
    except SettingsError as exc:
        return [wrong(part, line, "") for line in exc.lines]
