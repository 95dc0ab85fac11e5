"""Makes the worker's parts, each from its group of settings: all for `run`, single ones for commands."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

from worker.broker import BrokerOptions, Names, Topology
from worker.broker.connection import Connection, connection
from worker.ccfs import CcfsClient, open_client
from worker.ccfs.keys import KeyDirectory, Keyring
from worker.core.retry import RetryPolicy
from worker.settings import Amqp, Ccfs, Credentials, Retry, Settings, SettingsError, Storage
from worker.storage import CASE_FOLDED, Rules, Threads, has_mount, is_case_folded
from worker.storage import Storage as SharedStorage
from worker.tls import client_context

_LEAST_BLOCK, _MOST_BLOCK, _ALL_BLOCKS = 64 * 1024, 1024 * 1024, 8 * 1024 * 1024
_MOST_REUSING = 32
"""Downloads at once up to which there is memory for connections that outlive a large file."""

STORAGE_ROOT = "WORKER_STORAGE__ROOT"


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def storage_problems(storage: Storage, *, called: str = STORAGE_ROOT) -> Iterator[str]:
    """Say why the storage root cannot be used; `called` is what it was set by.

    Blocks for as long as the volume does. Makes a directory, and removes it, to see whether case counts.
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


def credentials_problems(credentials: Credentials) -> Iterator[str]:
    """Say why the directory of keys cannot be used."""
    return _directory_problems("WORKER_CREDENTIALS__DIR", credentials.dir, os.R_OK | os.X_OK)


def _directory_problems(variable: str, directory: Path, access: int) -> Iterator[str]:
    if not directory.exists():
        yield f"{variable}: {directory} does not exist: create it, or mount the volume there"
    elif not directory.is_dir():
        yield f"{variable}: {directory} is not a directory"
    elif not os.access(directory, access):
        wanted = "written to" if access & os.W_OK else "read"
        yield f"{variable}: {directory} cannot be {wanted} by user {os.geteuid()}: change its owner or mode"


def ccfs_tls(ccfs: Ccfs) -> ssl.SSLContext:
    """How CC-FS is verified.

    Raises:
        SettingsError: The file of authorities cannot be used.
    """
    try:
        return client_context(ca_file=ccfs.ca_file, verify=not ccfs.danger_accept_any_certificate)
    except OSError as exc:
        line = f"WORKER_CCFS__CA_FILE: {ccfs.ca_file} cannot be used: {exc.strerror or exc}"
        raise SettingsError([line]) from exc


def amqp_tls(amqp: Amqp) -> ssl.SSLContext | None:
    """How the broker is verified; None for `amqp://`.

    Raises:
        SettingsError: A certificate file cannot be used.
    """
    if not amqp.url.get_secret_value().startswith("amqps:"):
        return None
    try:
        return client_context(ca_file=amqp.ca_file, certificate=amqp.cert_file, key=amqp.key_file)
    except OSError as exc:
        line = (
            "WORKER_AMQP__CA_FILE, WORKER_AMQP__CERT_FILE, WORKER_AMQP__KEY_FILE: "
            f"a file cannot be used: {exc.strerror or exc}"
        )
        raise SettingsError([line]) from exc


def block_bytes(concurrency: int) -> int:
    """The size of the steps in which each of so many downloads goes, network and storage alike.

    A large file costs about a fifth less CPU in steps of a mebibyte than of a quarter of it; a hundred
    at once in such steps would take hundreds of mebibytes of memory.
    """
    return min(_MOST_BLOCK, max(_LEAST_BLOCK, _ALL_BLOCKS // concurrency))


def ccfs_client(
    ccfs: Ccfs, tls: ssl.SSLContext | None, *, concurrency: int = 1
) -> AbstractAsyncContextManager[CcfsClient]:
    """The client of CC-FS for so many downloads at once; without `tls` it trusts the system's authorities."""
    return open_client(
        base_url=ccfs.base_url,
        clock=now,
        connect_timeout=ccfs.connect_timeout,
        idle_timeout=ccfs.idle_timeout,
        tls=tls,
        host_header=ccfs.host_header,
        max_requests_per_second=ccfs.max_requests_per_second,
        block_bytes=block_bytes(concurrency),
        reuse_after_large=concurrency <= _MOST_REUSING,
    )


def shared_storage(
    storage: Storage, executor: Threads, *, lookout: Threads | None = None, concurrency: int = 1
) -> SharedStorage:
    """The storage for so many concurrent downloads; blocks for as long as the volume does.

    Args:
        storage: What it is.
        executor: What its calls run on.
        lookout: The thread of the looks at its volume.
        concurrency: How many.
    """
    return SharedStorage(
        storage.root,
        executor,
        lookout=lookout,
        max_file_bytes=storage.max_file_bytes,
        min_free_bytes=storage.min_free_bytes,
        block_bytes=block_bytes(concurrency),
        rules=Rules(
            file_mode=_octal(storage.file_mode),
            directory_mode=_octal(storage.dir_mode),
            require_mount=storage.require_mount,
        ),
    )


def _octal(mode: str | None) -> int | None:
    return None if mode is None else int(mode, 8)


def keyring(credentials: Credentials, executor: Threads, *, patience: float) -> Keyring:
    """The keys, read on `executor`; one that takes longer than `patience` seconds is unreadable."""
    return Keyring(KeyDirectory(credentials.dir), call=executor.start, patience=patience)


def retry_policy(retry: Retry) -> RetryPolicy:
    """The waits between attempts."""
    return RetryPolicy(delays=retry.delays, not_found_attempts=retry.not_found_attempts)


def names(amqp: Amqp) -> Names:
    """What the queues and exchanges are called here."""
    return Names(
        jobs=amqp.jobs_queue,
        results=amqp.results_exchange,
        results_queue=amqp.results_queue if amqp.results_queue_enabled else None,
        dead=amqp.dead_queue,
    )


def topology(amqp: Amqp, retry: Retry) -> Topology:
    """What has to exist in the broker."""
    return Topology(names=names(amqp), tiers=retry_policy(retry).tiers, delivery_limit=amqp.delivery_limit)


def broker_connection(amqp: Amqp, role: str) -> AbstractAsyncContextManager[Connection]:
    """A connection with the broker for something that is not the worker's session.

    Args:
        amqp: Where it is.
        role: What for, as the broker's list of connections shows it.

    Raises:
        SettingsError: A certificate file cannot be used.
    """
    return connection(
        amqp.url.get_secret_value(),
        name=f"ccfs-worker {socket.gethostname()} {role}",
        heartbeat=amqp.heartbeat,
        timeout=amqp.connect_timeout,
        tls=amqp_tls(amqp),
    )


def broker_options(settings: Settings, tls: ssl.SSLContext | None) -> BrokerOptions:
    """The session that the worker holds with the broker."""
    amqp = settings.amqp
    return BrokerOptions(
        url=amqp.url.get_secret_value(),
        topology=topology(amqp, settings.retry),
        declare=amqp.declare,
        prefetch=settings.concurrency,
        heartbeat=amqp.heartbeat,
        connect_timeout=amqp.connect_timeout,
        tls=tls,
        host=socket.gethostname(),
    )
