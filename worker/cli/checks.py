"""Tries out all that a worker would depend on here, and changes none of it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from concurrent.futures import Future
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from schemas import AppId
from worker import wiring
from worker.broker.inspection import inspect, version
from worker.ccfs import Answer
from worker.ccfs.keys import KeyDirectory
from worker.cli import inventory
from worker.errors import BrokerError, JobError
from worker.finding import Finding, fine, wrong
from worker.settings import (
    BrokerSettings,
    Ccfs,
    CcfsSettings,
    CredentialsSettings,
    SettingsError,
    Sourced,
    StorageSettings,
    load_part,
    unknown_variables,
)
from worker.storage.probe import probe_storage
from worker.urls import masked

PATIENCE = 30.0
"""Seconds that one part of the checks may take."""

MAX_SKEW = 60.0
"""Seconds that our clock and CC-FS's may differ. The vendor does not say from which difference on it refuses
a signature; a clock that is this far off is kept by nobody."""

_APP_ID: TypeAdapter[str] = TypeAdapter(AppId)
_T = TypeVar("_T")
_Part = TypeVar("_Part", bound=Sourced)


class Part(StrEnum):
    """What can be checked for itself."""

    SETTINGS = "settings"
    BROKER = "broker"
    STORAGE = "storage"
    KEYS = "keys"
    CCFS = "CC-FS"


async def run_checks(parts: Collection[Part] = tuple(Part)) -> AsyncIterator[Finding]:
    """Check parts at once, and give the findings part by part in a fixed order.

    Args:
        parts: Which.
    """
    if Part.SETTINGS in parts:
        for finding in settings_findings():
            yield finding
    checks = {Part.BROKER: _broker, Part.STORAGE: _storage, Part.KEYS: _keys, Part.CCFS: _ccfs}
    running = [asyncio.create_task(_bounded(part, check)) for part, check in checks.items() if part in parts]
    for part in running:
        for finding in await part:
            yield finding


async def _bounded(name: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except TimeoutError:
        return [wrong(name, f"gave no answer within {PATIENCE:g} s", "see whether it hangs")]
    except _NotTriedError:
        return [wrong(name, "not tried", "mend its settings first")]
    except SettingsError as exc:
        return [_refused(name, line) for line in exc.lines]


class _NotTriedError(Exception):
    """The settings are wrong, and were said to be already."""


def _load(part: type[_Part]) -> _Part:
    try:
        return load_part(part)
    except SettingsError as exc:
        raise _NotTriedError from exc


def settings_findings() -> Iterator[Finding]:
    """What is set, and whether it is valid; the untouched defaults in one line."""
    defaults = 0
    for entry in inventory.effective():
        variable, source = entry.setting.variable, entry.source
        if entry.problem:
            yield wrong(variable, f"{entry.problem} ({source})", entry.setting.description)
        elif source in {inventory.DEFAULT, inventory.UNSET}:
            defaults += 1
        else:
            yield fine(variable, f"{entry.value} ({source})")
    yield fine("other settings", f"{defaults} have their defaults; `ccfs-worker config` shows them")
    for problem in unknown_variables(os.environ):
        variable, _, detail = problem.partition(": ")
        yield wrong(variable, detail, "correct or remove it")


async def _broker() -> list[Finding]:
    settings = _load(BrokerSettings)
    amqp = settings.amqp
    try:
        async with wiring.broker_connection(amqp, "check") as opened:
            return [
                fine("broker login", masked(amqp.url.get_secret_value())),
                version(opened),
                *await inspect(
                    opened,
                    wiring.topology(amqp, settings.retry),
                    declares=amqp.declare,
                    timeout=amqp.publish_timeout,
                ),
            ]
    except BrokerError as exc:
        return [_refused("broker", str(exc))]


async def _storage() -> list[Finding]:
    storage = _load(StorageSettings).storage
    found: list[Finding] = []

    def probe() -> None:
        found.extend(_refused("storage", problem) for problem in wiring.storage_problems(storage))
        if not found:
            # One by one, so that what was found is there even when the next step hangs.
            found.extend(probe_storage(storage.root, min_free_bytes=storage.min_free_bytes))

    patience = min(PATIENCE / 2, storage.hang_after)
    try:
        async with asyncio.timeout(patience):
            await _in_daemon_thread(probe)
    except TimeoutError:
        found.append(
            wrong("storage", f"hangs: no answer within {patience:g} s", "see whether the file server answers")
        )
    return found


async def _keys() -> list[Finding]:
    credentials = _load(CredentialsSettings).credentials
    if problems := list(wiring.credentials_problems(credentials)):
        return [_refused("keys", problem) for problem in problems]
    return await _in_daemon_thread(lambda: list(_key_findings(credentials.dir)))


def _key_findings(directory: Path) -> Iterator[Finding]:
    keys = KeyDirectory(directory)
    names = keys.names()
    bad = [finding for name in names for finding in _key_problem(keys, name)]
    yield from bad
    good = len(names) - len(bad)
    if good:
        yield fine("keys", f"of {good} accounts in {directory}")
    else:
        yield wrong(
            "keys", f"none in {directory}", "put a file there for each account, called like its appId"
        )


def _key_problem(keys: KeyDirectory, name: str) -> Iterator[Finding]:
    try:
        _APP_ID.validate_python(name)
        keys.read(name)
    except ValidationError:
        yield wrong(
            f"key {name}", "no account can be called so", "name the file after an appId, or remove it"
        )
    except JobError as exc:
        yield wrong(f"key {name}", exc.message, "write the account's secret key into it, and nothing else")


async def _ccfs() -> list[Finding]:
    ccfs = _load(CcfsSettings).ccfs
    async with wiring.ccfs_client(ccfs, wiring.ccfs_tls(ccfs)) as client:
        before = wiring.now()
        try:
            async with asyncio.timeout(PATIENCE / 2):
                answer = await client.probe()
        except (JobError, TimeoutError) as exc:
            return [_unreachable(ccfs, exc)]
        middle = before + (wiring.now() - before) / 2
    return [
        fine("CC-FS", f"{ccfs.base_url} answers (HTTP {answer.status}, as it may to an unsigned request)"),
        _skew(answer, middle),
    ]


def _unreachable(ccfs: Ccfs, error: Exception) -> Finding:
    if not isinstance(error, JobError):
        return wrong("CC-FS", "did not answer in time", "check WORKER_CCFS__BASE_URL and the way there")
    if "CERTIFICATE" in error.message.upper():
        remedy = "set WORKER_CCFS__CA_FILE to the PEM file of the authority that signed its certificate"
    else:
        remedy = f"check WORKER_CCFS__BASE_URL ({ccfs.base_url}), and firewalls and proxies on the way there"
    return wrong("CC-FS", error.message, remedy)


def _skew(answer: Answer, here: datetime) -> Finding:
    name = "clock"
    if answer.date is None:
        return fine(name, "not compared: CC-FS's answer bears no date")
    skew = (answer.date - here).total_seconds()
    # The header has whole seconds.
    if abs(skew) <= 1:
        return fine(name, "agrees with CC-FS's")
    detail = f"CC-FS's is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > MAX_SKEW:
        return wrong(name, detail, "set this machine's clock (NTP): CC-FS answers 401 to stale signatures")
    return fine(name, detail)


def _refused(name: str, line: str) -> Finding:
    """A bad verdict from one of the worker's own lines, which says itself what to do."""
    return wrong(name, line, "")


async def _in_daemon_thread(call: Callable[[], _T]) -> _T:
    """Run a blocking call on a thread that does not keep the process alive when it hangs."""
    future: Future[_T] = Future()
    # From now on it cannot be cancelled, and takes a result that nobody waits for any more.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
