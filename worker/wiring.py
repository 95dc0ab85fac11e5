"""Makes the parts from their groups of settings and puts them together: the only place that knows them all.

`worker.app` takes the whole worker; a command takes the single parts that it needs.
"""

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import metadata, version
from pathlib import Path
from typing import TypeVar

from yarl import URL

from worker.broker import Address, BrokerOptions, Names, Topology
from worker.broker.connection import AmqpConnection, open_connection
from worker.broker.management import ManagementApi, QueueView
from worker.ccfs import CcfsClient, open_client
from worker.ccfs.keys import KeyDirectory, Keyring
from worker.core.accounts import Accounts, HoldPolicy
from worker.core.attempt import Downloader
from worker.core.deliveries import Deliveries, PublishPatience
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.pace import Pace
from worker.core.ports import Tracer
from worker.core.retry import RetryPolicy
from worker.errors import BrokerError
from worker.net.tls import client_context
from worker.net.urls import of_each_host
from worker.observe import web
from worker.observe.metrics import Metrics
from worker.observe.overview import Identity, Overview
from worker.observe.tracing import open_tracer
from worker.settings import (
    SECRETS_DIR,
    AccountsGroup,
    AmqpGroup,
    BrokerSettings,
    CcfsGroup,
    CredentialsGroup,
    RetryGroup,
    Settings,
    SettingsError,
    StorageGroup,
    load_part,
)
from worker.storage import CASE_FOLDED, STALE, RootRules, SharedStorage, Threads, has_mount, is_case_folded
from worker.supervisor import Supervisor
from worker.watches.accounts import AccountWatch
from worker.watches.descriptors import DescriptorWatch, limit_problems
from worker.watches.keys import KeyWatch
from worker.watches.members import MemberWatch
from worker.watches.upstream import UpstreamWatch
from worker.watches.volume import VolumeWatch

_LEAST_BLOCK, _MOST_BLOCK, _ALL_BLOCKS = 64 * 1024, 1024 * 1024, 32 * 1024 * 1024
"""Bytes that a download takes of its file at a time, and that all downloads take together."""
_MOST_WITH_TWO_BLOCKS = 32
_MAX_THREADS = 32

STORAGE_ROOT = "WORKER_STORAGE__ROOT"


@dataclass(frozen=True, slots=True)
class Pools:
    """The worker's threads, by kind of call: one that hangs delays no other kind.

    Attributes:
        files: Write and read the files.
        lookout: Examines the volume, one call at a time.
        keys: Reads keys, one at a time.
        login: Reads how to log in to the broker.
    """

    files: Threads
    lookout: Threads
    keys: Threads
    login: Threads

    @property
    def hanging(self) -> bool:
        """Whether a call is still running that is no longer awaited."""
        return any(threads.running for threads in (self.files, self.lookout, self.keys, self.login))


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the settings point at, checked and opened."""

    ccfs_tls: ssl.SSLContext | None
    amqp_tls: ssl.SSLContext | None
    management: ManagementApi | None
    storage: SharedStorage


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs while the worker does."""

    supervisor: Supervisor
    descriptors: DescriptorWatch
    upstream: UpstreamWatch
    keys: KeyWatch
    accounts: AccountWatch
    members: MemberWatch
    volume: VolumeWatch
    overview: Overview


def pools(stack: AsyncExitStack, *, concurrency: int) -> Pools:
    """Start the threads; they end with `stack`."""
    files = stack.enter_context(Threads(min(_MAX_THREADS, concurrency + 2)))
    lookout, keys, login = (stack.enter_context(Threads(1)) for _ in range(3))
    return Pools(files, lookout, keys, login)


def look_around(settings: Settings, threads: Pools) -> Surroundings:
    """Check that the directories and certificate files of the settings can be used, and open them.

    Blocks for as long as the file systems do.

    Raises:
        SettingsError: One line for each that cannot.
    """
    problems = [
        *limit_problems(settings.concurrency),
        *storage_problems(settings.storage),
        *credentials_problems(settings.credentials),
    ]
    for_ccfs = for_broker = management = None
    try:
        for_ccfs = ccfs_tls(settings.ccfs)
    except SettingsError as exc:
        problems.extend(exc.lines)
    try:
        for_broker = amqp_tls(settings.amqp)
        management = management_api(settings.amqp)
    except SettingsError as exc:
        problems.extend(exc.lines)
    if problems:
        raise SettingsError(problems)
    storage = shared_storage(settings.storage, threads.files, lookout=threads.lookout)
    return Surroundings(for_ccfs, for_broker, management, storage)


def put_together(
    settings: Settings,
    around: Surroundings,
    client: CcfsClient,
    threads: Pools,
    *,
    draining: asyncio.Event,
    tracer: Tracer | None,
) -> Parts:
    """Make the whole worker; nothing of it runs yet."""
    gate, policy, whoami = Gate(), retry_policy(settings.retry), identity(settings)
    metrics, own_pace = Metrics(whoami.version, now), pace(settings)
    descriptors = DescriptorWatch(gate)
    upstream = UpstreamWatch(
        client.probe, gate, pause_after=settings.ccfs.pause_after, longest_pause=policy.tiers[-1]
    )
    volume = volume_watch(settings.storage, around.storage, gate)
    keys = keyring(settings.credentials, threads.keys, patience=settings.storage.hang_after)
    key_watch = KeyWatch(keys, threads.keys, gate, clock=now)
    held = Accounts(hold_policy(settings.accounts), clock=now)
    downloader = Downloader(
        keys=keys, source=client, store=around.storage, accounts=held, job_timeout=settings.job_timeout
    )
    downloads = Downloads(
        downloader.fetch,
        pace=own_pace,
        gate=gate,
        accounts=held,
        watches=(descriptors, upstream, key_watch, volume),
        observer=metrics,
    )
    deliveries = Deliveries(
        downloads,
        policy=policy,
        observer=metrics,
        host=whoami.host,
        clock=now,
        tracer=tracer,
        patience=PublishPatience(confirm_within=settings.amqp.publish_timeout),
    )
    supervisor = Supervisor(
        broker_options(settings, around.amqp_tls, threads.login),
        deliveries=deliveries,
        gate=gate,
        draining=draining,
        grace=settings.shutdown_grace,
        on_session=metrics.session_opened,
    )
    members = member_watch(settings, around.management, threads.login)
    overview = Overview(
        identity=whoami,
        clock=now,
        metrics=metrics,
        gate=gate,
        draining=draining,
        pace=own_pace,
        downloads=downloads,
        accounts=held,
        deliveries=deliveries,
        supervisor=supervisor,
        members=members,
        volume=volume,
        client=client,
    )
    metrics.show(overview.readings)
    return Parts(
        supervisor, descriptors, upstream, key_watch, AccountWatch(held, keys), members, volume, overview
    )


def identity(settings: Settings) -> Identity:
    """What the status says of this worker."""
    return Identity(
        version=version("ccfs-worker"),
        host=socket.gethostname(),
        started_at=now(),
        concurrency=settings.concurrency,
        reserved_bytes=settings.storage.min_free_bytes,
        queue_roles=topology(settings.amqp, settings.retry, settings.accounts).roles,
        runbook=runbook(),
    )


def runbook() -> str:
    """Where the runbook is, by the package's own URLs (PEP 753); empty without them."""
    urls = dict(line.split(", ", 1) for line in metadata("ccfs-worker").get_all("Project-URL") or ())
    return f"{urls['Source']}/blob/main/docs/runbook.md" if "Source" in urls else ""


def pace(settings: Settings) -> Pace:
    """What limits concurrent downloads."""
    return Pace(
        concurrency=settings.concurrency,
        per_app=settings.concurrency_per_app or settings.concurrency,
        patience=settings.patience,
        clock=asyncio.get_running_loop().time,
    )


def volume_watch(storage: StorageGroup, opened: SharedStorage, gate: Gate) -> VolumeWatch:
    """What watches the volume of the storage."""
    return VolumeWatch(
        opened,
        gate,
        clock=now,
        min_free_bytes=storage.min_free_bytes,
        check_interval=storage.check_interval,
        hang_after=storage.hang_after,
        stale_after=storage.stale_after,
    )


def member_watch(settings: Settings, api: ManagementApi | None, executor: Threads) -> MemberWatch:
    """What watches the members of the queues, if there is a management API.

    Its URL and login are read again on `executor` for each question, as the broker's are for each session.
    """
    queues = topology(settings.amqp, settings.retry, settings.accounts).queues()
    patience = settings.amqp.connect_timeout

    async def ask() -> Mapping[str, QueueView]:
        if current := await _read_again(executor, patience, management_api):
            return await current.queues(queues)
        raise BrokerError("WORKER_AMQP__MANAGEMENT_URL is not set any more")

    return MemberWatch(ask if api else None)


def tracing(settings: Settings) -> AbstractAsyncContextManager[Tracer | None]:
    """The tracer; None unless traces are asked for."""
    return open_tracer(
        jobs_queue=settings.amqp.jobs_queue,
        base_url=settings.ccfs.base_url,
        version=version("ccfs-worker"),
    )


@asynccontextmanager
async def http_server(settings: Settings, overview: Overview) -> AsyncIterator[int]:
    """Serve probes, metrics and status; gives the port.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    http, ends_when_stale = settings.http, settings.storage.restart_on_stale_mount
    server = web.serve(
        http.host,
        http.port,
        checks=overview.checks,
        render=overview.metrics.render,
        status=overview.report,
        ailment=lambda: overview.volume.stale if ends_when_stale else "",
        allowed_hosts=http.allowed_hosts,
    )
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(server)
        except OSError as exc:
            reason = os.strerror(exc.errno or 0)
            line = f"WORKER_HTTP__PORT: cannot listen on {http.host}:{http.port}: {reason}"
            raise SettingsError([line]) from exc
        yield port


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def storage_problems(storage: StorageGroup, *, called: str = STORAGE_ROOT) -> Iterator[str]:
    """Say why the storage root cannot be used.

    Blocks for as long as the volume does. Makes a directory and removes it, to see whether the volume tells
    names apart that differ only in case.

    Args:
        storage: Its settings.
        called: The variable or option that the root comes from. Each line begins with it.
    """
    if problems := list(_directory_problems(called, storage.root, os.R_OK | os.W_OK | os.X_OK)):
        yield from problems
    elif storage.require_mount and not has_mount(storage.root):
        yield (
            f"{called}: {storage.root} is no mount point: mount the volume there, or unset "
            "WORKER_STORAGE__REQUIRE_MOUNT"
        )
    elif is_case_folded(storage.root):
        yield f"{called}: {CASE_FOLDED.format(root=storage.root)}: mount a file system that tells them apart"


def credentials_problems(credentials: CredentialsGroup) -> Iterator[str]:
    """Say why the directory of keys cannot be used."""
    return _directory_problems("WORKER_CREDENTIALS__DIR", credentials.dir, os.R_OK | os.X_OK)


def _directory_problems(variable: str, directory: Path, access: int) -> Iterator[str]:
    try:
        mode = directory.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        yield f"{variable}: {directory} does not exist: create it, or mount the volume there"
        return
    except OSError as exc:
        reason = STALE.format(root=directory) if exc.errno == errno.ESTALE else f"{directory}: {exc.strerror}"
        yield f"{variable}: {reason}"
        return
    if not stat.S_ISDIR(mode):
        yield f"{variable}: {directory} is not a directory"
    elif not os.access(directory, access):
        wanted = "written to" if access & os.W_OK else "read"
        yield f"{variable}: {directory} cannot be {wanted} by user {os.geteuid()}: change its owner or mode"


def ccfs_tls(ccfs: CcfsGroup) -> ssl.SSLContext:
    """The TLS context that verifies CC-FS.

    Raises:
        SettingsError: The file of authorities cannot be used.
    """
    try:
        return client_context(ca_file=ccfs.ca_file, verify=not ccfs.danger_accept_any_certificate)
    except OSError as exc:
        line = f"WORKER_CCFS__CA_FILE: {ccfs.ca_file} cannot be used: {exc.strerror or exc}"
        raise SettingsError([line]) from exc


def amqp_tls(amqp: AmqpGroup) -> ssl.SSLContext | None:
    """The TLS context that verifies the broker; None for `amqp://`.

    Raises:
        SettingsError: A certificate file cannot be used.
    """
    return _broker_tls(amqp) if amqp.url.get_secret_value().startswith("amqps:") else None


def management_api(amqp: AmqpGroup) -> ManagementApi | None:
    """RabbitMQ's management API; None where it is not given.

    Raises:
        SettingsError: A certificate file cannot be used.
    """
    if amqp.management_url is None:
        return None
    url = amqp.management_url.get_secret_value()
    vhost = URL(of_each_host(amqp.url.get_secret_value())[0]).path[1:] or "/"
    return ManagementApi(url=url, vhost=vhost, tls=_broker_tls(amqp) if url.startswith("https:") else None)


def _broker_tls(amqp: AmqpGroup) -> ssl.SSLContext:
    try:
        return client_context(ca_file=amqp.ca_file, certificate=amqp.cert_file, key=amqp.key_file)
    except OSError as exc:
        line = (
            "WORKER_AMQP__CA_FILE, WORKER_AMQP__CERT_FILE, WORKER_AMQP__KEY_FILE: "
            f"a file cannot be used: {exc.strerror or exc}"
        )
        raise SettingsError([line]) from exc


def blocks(concurrency: int) -> tuple[int, int]:
    """How many bytes a download receives and writes in one step, and how many such blocks it may take.

    A large file costs about a fifth less CPU in steps of 1 MiB than of 256 KiB. With two blocks one comes in
    while the other is written; with many downloads, others come in meanwhile.
    """
    number = 2 if concurrency <= _MOST_WITH_TWO_BLOCKS else 1
    return min(_MOST_BLOCK, max(_LEAST_BLOCK, _ALL_BLOCKS // (number * concurrency))), number


def ccfs_client(
    ccfs: CcfsGroup, tls: ssl.SSLContext | None, *, concurrency: int = 1
) -> AbstractAsyncContextManager[CcfsClient]:
    """The client of CC-FS for `concurrency` downloads; without `tls` it trusts the system's authorities."""
    block_bytes, number = blocks(concurrency)
    return open_client(
        base_url=ccfs.base_url,
        clock=now,
        connect_timeout=ccfs.connect_timeout,
        idle_timeout=ccfs.idle_timeout,
        tls=tls,
        tls_server_name=ccfs.tls_server_name,
        proxy_url=ccfs.proxy_url,
        host_header=ccfs.host_header,
        keep_alive=ccfs.keep_alive,
        max_requests_per_second=ccfs.max_requests_per_second,
        block_bytes=block_bytes,
        blocks=number,
    )


def shared_storage(
    storage: StorageGroup, executor: Threads, *, lookout: Threads | None = None
) -> SharedStorage:
    """The storage. Blocks for as long as the volume does.

    Args:
        storage: Its settings.
        executor: The threads that its calls run on.
        lookout: The thread that looks at its volume; `executor` when None.
    """
    return SharedStorage(
        storage.root,
        executor,
        lookout=lookout,
        max_file_bytes=storage.max_file_bytes,
        min_free_bytes=storage.min_free_bytes,
        rules=RootRules(
            file_mode=None if storage.file_mode is None else int(storage.file_mode, 8),
            directory_mode=None if storage.dir_mode is None else int(storage.dir_mode, 8),
            require_mount=storage.require_mount,
        ),
    )


def keyring(credentials: CredentialsGroup, executor: Threads, *, patience: float) -> Keyring:
    """The keys, read on `executor`; a read is given up after `patience` seconds."""
    return Keyring(KeyDirectory(credentials.dir), call=executor.start, patience=patience)


def retry_policy(retry: RetryGroup) -> RetryPolicy:
    """The policy of retries."""
    return RetryPolicy(delays=retry.delays, not_found_attempts=retry.not_found_attempts)


def names(amqp: AmqpGroup) -> Names:
    """The names of queues and exchanges."""
    return Names(
        jobs=amqp.jobs_queue,
        results=amqp.results_exchange,
        results_queue=amqp.results_queue if amqp.results_queue_enabled else None,
        dead=amqp.dead_queue,
        failed=amqp.failed_queue if amqp.failed_keep else None,
    )


def hold_policy(holds: AccountsGroup) -> HoldPolicy:
    """How long jobs of refused accounts wait."""
    return HoldPolicy(at_most=holds.hold_at_most, probe_interval=holds.probe_interval)


def topology(amqp: AmqpGroup, retry: RetryGroup, holds: AccountsGroup) -> Topology:
    """What must exist in the broker."""
    return Topology(
        names=replace(names(amqp), held_tier=hold_policy(holds).tier),
        tiers=retry_policy(retry).tiers,
        delivery_limit=amqp.delivery_limit,
        failed_keep=amqp.failed_keep,
    )


def broker_connection(amqp: AmqpGroup, role: str) -> AbstractAsyncContextManager[AmqpConnection]:
    """A connection with the broker for something that is not the worker's session.

    Args:
        amqp: Where it is.
        role: What it is for, in the broker's list of connections.

    Raises:
        SettingsError: A certificate file cannot be used.
    """
    return open_connection(
        amqp.address,
        name=f"ccfs-worker {socket.gethostname()} {role}",
        heartbeat=amqp.heartbeat,
        timeout=amqp.connect_timeout,
        tls=amqp_tls(amqp),
    )


def broker_options(settings: Settings, tls: ssl.SSLContext | None, executor: Threads) -> BrokerOptions:
    """How the worker's session with the broker is opened; the address is read again on `executor`."""
    amqp = settings.amqp
    return BrokerOptions(
        url=amqp.address,
        topology=topology(amqp, settings.retry, settings.accounts),
        declare=amqp.declare,
        prefetch=settings.concurrency,
        heartbeat=amqp.heartbeat,
        connect_timeout=amqp.connect_timeout,
        tls=tls,
        host=socket.gethostname(),
        reread=partial(broker_address, executor, amqp.connect_timeout),
    )


async def broker_address(executor: Threads, patience: float) -> Address:
    """Read URL, login and certificates of the broker as they are set now: files may have changed.

    Args:
        executor: The thread to read on: the files may lie on a volume that hangs.
        patience: Seconds for that.

    Raises:
        BrokerError: They cannot be used; the text says why, and shows no secret.
    """
    return await _read_again(executor, patience, lambda amqp: Address(amqp.address, amqp_tls(amqp)))


async def _read_again(executor: Threads, patience: float, take: Callable[[AmqpGroup], _T]) -> _T:
    try:
        async with asyncio.timeout(patience):
            return await executor.start(lambda: take(load_part(BrokerSettings).amqp))
    except SettingsError as exc:
        raise BrokerError(f"RabbitMQ's address cannot be used any more: {'; '.join(exc.lines)}") from exc
    except TimeoutError as exc:
        raise BrokerError(
            f"RabbitMQ's address could not be read again within {patience:g} s: see whether the directory of "
            f"{SECRETS_DIR} and the certificates answer"
        ) from exc
