"""The parts of `ccfs-worker check`: each tries out one thing that a worker needs, and changes nothing."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from schemas import AppId
from worker import wiring
from worker.broker.inspection import inspect, version
from worker.broker.members import inspect_members
from worker.ccfs import ProbeAnswer
from worker.ccfs.keys import KeyDirectory
from worker.cli import inventory
from worker.cli.daemon import in_daemon_thread
from worker.errors import BrokerError, JobError
from worker.finding import Finding, fine, wrong
from worker.net.urls import masked
from worker.settings import (
    BrokerSettings,
    CcfsSettings,
    CredentialsSettings,
    StorageGroup,
    StorageSettings,
    unknown_variables,
)
from worker.storage.mountinfo import examine_mount
from worker.storage.probe import free_space, probe_storage

PATIENCE = 30.0
"""Seconds that one part of the checks may take."""

MAX_SKEW = 60.0
"""Seconds that our clock and CC-FS's may differ. The vendor does not say at which difference it refuses a
signature; no clock that is kept by NTP is this far off."""

_UNTRUSTED = "set WORKER_CCFS__CA_FILE to the PEM file of the authority that signed its certificate"
_UNREACHED = "check WORKER_CCFS__BASE_URL ({}), and firewalls and proxies on the way there"
_APP_ID: TypeAdapter[str] = TypeAdapter(AppId)


def check_settings() -> Iterator[Finding]:
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


async def check_broker(settings: BrokerSettings) -> list[Finding]:
    """Log in, and compare what is declared there with what the worker wants."""
    amqp = settings.amqp
    try:
        async with wiring.broker_connection(amqp, "check") as opened:
            return [
                fine("broker login", masked(amqp.address)),
                version(opened),
                *await inspect(
                    opened,
                    wiring.topology(amqp, settings.retry, settings.accounts),
                    declares=amqp.declare,
                    timeout=amqp.publish_timeout,
                ),
            ]
    except BrokerError as exc:
        return [wrong("broker", str(exc), "")]


async def check_members(settings: BrokerSettings) -> list[Finding]:
    """Ask the management API, where it is given, what AMQP does not tell of the queues."""
    api = wiring.management_api(settings.amqp)
    if api is None:
        unknown = (
            "not known, nor which policies are in effect: AMQP does not tell. Set WORKER_AMQP__MANAGEMENT_URL"
        )
        return [fine("members of queues", unknown)]
    return await inspect_members(api, wiring.topology(settings.amqp, settings.retry, settings.accounts))


async def check_storage(settings: StorageSettings) -> list[Finding]:
    """Write, flush and rename a file on the shared storage, and remove it again."""
    storage = settings.storage

    def probe() -> Iterator[Finding]:
        with suppress(OSError):
            # One that cannot be opened is for the others to say.
            yield from examine_mount(storage.root)
        if problems := list(wiring.storage_problems(storage)):
            yield from (wrong("storage", problem, "") for problem in problems)
        else:
            yield from probe_storage(storage.root)

    return await _of_volume(storage, probe)


async def check_space(settings: StorageSettings) -> list[Finding]:
    """Look whether the shared storage has the space that is to stay free there."""
    storage = settings.storage

    def look() -> Iterator[Finding]:
        # What else is wrong with the root is for `check_storage` to say.
        try:
            yield free_space(storage.root, min_free_bytes=storage.min_free_bytes)
        except FileNotFoundError:
            pass
        except OSError as exc:
            yield wrong("storage free space", f"{storage.root}: {exc.strerror}", "")

    return await _of_volume(storage, look)


async def _of_volume(storage: StorageGroup, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    patience = min(PATIENCE / 2, storage.hang_after)
    try:
        async with asyncio.timeout(patience):
            # One by one: the findings so far are kept when the next step hangs.
            await in_daemon_thread(lambda: found.extend(look()))
    except TimeoutError:
        found.append(
            wrong("storage", f"hangs: no answer within {patience:g} s", "see whether the file server answers")
        )
    return found


async def check_keys(settings: CredentialsSettings) -> list[Finding]:
    """Read every key."""
    directory = settings.credentials.dir
    if problems := list(wiring.credentials_problems(settings.credentials)):
        return [wrong("keys", problem, "") for problem in problems]

    def read_all() -> list[Finding]:
        keys = KeyDirectory(directory)
        names = keys.names()
        bad: list[Finding] = []
        for name in names:
            try:
                _APP_ID.validate_python(name)
                keys.read(name)
            except ValidationError:
                remedy = "name the file after an appId, or remove it"
                bad.append(wrong(f"key {name}", "no account can be called so", remedy))
            except JobError as exc:
                remedy = "write the account's secret key into it, and nothing else"
                bad.append(wrong(f"key {name}", exc.message, remedy))
        if good := len(names) - len(bad):
            return [*bad, fine("keys", f"of {good} accounts in {directory}")]
        remedy = "put a file there for each account, named after its appId"
        return [*bad, wrong("keys", f"none in {directory}", remedy)]

    return await in_daemon_thread(read_all)


async def check_ccfs(settings: CcfsSettings) -> list[Finding]:
    """Send CC-FS an unsigned request, and compare its clock with ours."""
    ccfs = settings.ccfs
    async with wiring.ccfs_client(ccfs, wiring.ccfs_tls(ccfs)) as client:
        before = wiring.now()
        try:
            async with asyncio.timeout(PATIENCE / 2):
                answer = await client.probe()
        except TimeoutError:
            remedy = "check WORKER_CCFS__BASE_URL and the way there"
            return [wrong("CC-FS", "did not answer in time", remedy)]
        except JobError as exc:
            is_untrusted = "CERTIFICATE" in exc.message.upper()
            remedy = _UNTRUSTED if is_untrusted else _UNREACHED.format(ccfs.base_url)
            return [wrong("CC-FS", exc.message, remedy)]
        # CC-FS reads its clock somewhere in between.
        middle = before + (wiring.now() - before) / 2
    return [
        fine("CC-FS", f"{ccfs.base_url} answers (HTTP {answer.status}, as it may to an unsigned request)"),
        _clock(answer, middle),
    ]


def _clock(answer: ProbeAnswer, here: datetime) -> Finding:
    """Compare CC-FS's clock with ours, `here`, at the middle of the exchange."""
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
