"""Puts the worker together from its settings and runs it until it is told to stop."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog

from worker import wiring
from worker.ccfs import CcfsClient
from worker.core.attempt import Downloader
from worker.core.deliveries import Intake, PublishPatience
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.pace import Pace
from worker.core.spans import Tracer
from worker.observe import logs, web
from worker.observe.metrics import Metrics
from worker.observe.overview import Identity, Overview
from worker.observe.tracing import open_tracer
from worker.runtime import drain_on_signal
from worker.settings import Settings, SettingsError, unknown_variables
from worker.storage import Call, Storage, Threads
from worker.supervisor import Supervisor
from worker.watches.descriptors import DescriptorWatch, limit_problems
from worker.watches.upstream import UpstreamWatch
from worker.watches.volume import VolumeWatch

_MAX_THREADS = 32
_LEAVE_WITHIN = 5.0
"""Seconds after the grace in which jobs are given back and connections closed; then the process ends."""
_LAST_WORDS = 2.0
"""Seconds to write the rest of the log."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the settings point at, found to be usable."""

    ccfs_tls: ssl.SSLContext | None
    amqp_tls: ssl.SSLContext | None


def look_around(settings: Settings) -> Surroundings:
    """Check that the directories and certificate files of the settings can be used.

    Blocks for as long as the file systems do.

    Raises:
        SettingsError: One line for each that cannot.
    """
    problems = [
        *limit_problems(settings.concurrency),
        *wiring.storage_problems(settings.storage),
        *wiring.credentials_problems(settings.credentials),
    ]
    ccfs_tls = amqp_tls = None
    try:
        ccfs_tls = wiring.ccfs_tls(settings.ccfs)
    except SettingsError as exc:
        problems.extend(exc.lines)
    try:
        amqp_tls = wiring.amqp_tls(settings.amqp)
    except SettingsError as exc:
        problems.extend(exc.lines)
    if problems:
        raise SettingsError(problems)
    return Surroundings(ccfs_tls, amqp_tls)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What runs while the worker does."""

    supervisor: Supervisor
    descriptors: DescriptorWatch
    upstream: UpstreamWatch
    volume: VolumeWatch
    overview: Overview


async def run(settings: Settings) -> None:
    """Run the worker until SIGTERM or SIGINT, then drain.

    Raises:
        SettingsError: Something that the settings point at cannot be used.
    """
    async with AsyncExitStack() as stack:
        draining = stack.enter_context(drain_on_signal(settings.shutdown_grace + _LEAVE_WITHIN, _leave))
        executor = stack.enter_context(Threads(min(_MAX_THREADS, settings.concurrency + 2)))
        lookout = stack.enter_context(Threads(1))
        key_reader = stack.enter_context(Threads(1))
        log.debug("worker.looking")
        looking = lookout.start(partial(_find, settings, executor, lookout))
        await _first(looking, draining.wait(), settings.storage.hang_after)
        if draining.is_set():
            return
        if not looking.done():
            raise SettingsError([_silent_line(settings)])
        around, storage = looking.result()
        client = await stack.enter_async_context(
            wiring.ccfs_client(settings.ccfs, around.ccfs_tls, concurrency=settings.concurrency)
        )
        tracer = await stack.enter_async_context(_tracer(settings))
        downloader = _downloader(settings, client, storage, key_reader)
        parts = _put_together(settings, around, client, downloader, storage, draining, tracer)
        port = await stack.enter_async_context(_serve(settings, parts.overview))
        log.info("worker.started", http_port=port, concurrency=settings.concurrency)
        _warn(settings)
        await _until_drained(
            parts.supervisor.run(),
            parts.descriptors.run(),
            parts.upstream.run(),
            parts.volume.run(),
            parts.volume.sweep_hourly(),
            parts.overview.keep_rates(),
        )
    log.info("worker.stopped")
    if any(threads.running for threads in (executor, lookout, key_reader)):
        # What hangs in them would also hold up the interpreter's own end.
        _leave()


def _find(settings: Settings, executor: Threads, lookout: Threads) -> tuple[Surroundings, Storage]:
    """Look around, and open the storage; blocks for as long as the file systems do."""
    around = look_around(settings)
    return around, wiring.shared_storage(
        settings.storage, executor, lookout=lookout, concurrency=settings.concurrency
    )


def _silent_line(settings: Settings) -> str:
    return (
        f"WORKER_STORAGE__ROOT: {settings.storage.root}, or the directory of WORKER_CREDENTIALS__DIR, does "
        f"not answer within {settings.storage.hang_after:g} s: see whether its file server does"
    )


async def _first(future: Call[Any], other: Coroutine[Any, Any, Any], timeout: float) -> None:
    """Wait until the first of two is done, or for some seconds; the other one is dropped."""
    task = asyncio.ensure_future(other)
    await asyncio.wait([future, task], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()


def _leave() -> None:
    """End the process without waiting for any thread: one that hangs in the kernel may hold up everything."""
    # A log that is a file may lie on what hangs.
    words = threading.Thread(target=_say_left, daemon=True)
    words.start()
    words.join(_LAST_WORDS)
    os._exit(0)


def _say_left() -> None:
    log.warning("worker.left", threads=threading.active_count() - 2)
    logs.flush()


def _put_together(
    settings: Settings,
    around: Surroundings,
    client: CcfsClient,
    downloader: Downloader,
    storage: Storage,
    draining: asyncio.Event,
    tracer: Tracer | None,
) -> _Parts:
    gate, policy = Gate(), wiring.retry_policy(settings.retry)
    identity = _identity(settings)
    metrics = Metrics(identity.version)
    pace = _pace(settings)
    upstream = UpstreamWatch(
        client.probe, gate, pause_after=settings.ccfs.pause_after, longest_pause=policy.tiers[-1]
    )
    volume = _volume(settings, storage, gate)
    descriptors = DescriptorWatch(gate)
    downloads = Downloads(
        downloader.fetch,
        pace=pace,
        gate=gate,
        watches=(descriptors, upstream, volume),
        observer=metrics,
    )
    intake = Intake(
        downloads,
        policy=policy,
        observer=metrics,
        host=identity.host,
        clock=wiring.now,
        tracer=tracer,
        patience=PublishPatience(confirm_within=settings.amqp.publish_timeout),
    )
    supervisor = Supervisor(
        wiring.broker_options(settings, around.amqp_tls),
        intake=intake,
        gate=gate,
        draining=draining,
        grace=settings.shutdown_grace,
        on_session=metrics.session_opened,
    )
    overview = Overview(
        identity=identity,
        clock=wiring.now,
        metrics=metrics,
        gate=gate,
        draining=draining,
        pace=pace,
        downloads=downloads,
        intake=intake,
        supervisor=supervisor,
        volume=volume,
    )
    metrics.show(overview.readings)
    return _Parts(supervisor, descriptors, upstream, volume, overview)


def _tracer(settings: Settings) -> AbstractAsyncContextManager[Tracer | None]:
    return open_tracer(
        jobs_queue=settings.amqp.jobs_queue,
        base_url=settings.ccfs.base_url,
        version=version("ccfs-worker"),
    )


def _identity(settings: Settings) -> Identity:
    return Identity(
        version=version("ccfs-worker"),
        host=socket.gethostname(),
        started_at=wiring.now(),
        concurrency=settings.concurrency,
        reserved_bytes=settings.storage.min_free_bytes,
    )


async def _until_drained(main: Coroutine[Any, Any, None], *background: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(work) for work in background]
        await main
        for task in others:
            task.cancel()


def _pace(settings: Settings) -> Pace:
    return Pace(
        concurrency=settings.concurrency,
        per_app=settings.concurrency_per_app or settings.concurrency,
        patience=settings.patience,
        clock=asyncio.get_running_loop().time,
    )


def _volume(settings: Settings, storage: Storage, gate: Gate) -> VolumeWatch:
    return VolumeWatch(
        storage,
        gate,
        clock=wiring.now,
        min_free_bytes=settings.storage.min_free_bytes,
        check_interval=settings.storage.check_interval,
        hang_after=settings.storage.hang_after,
        stale_after=settings.storage.stale_after,
    )


def _downloader(settings: Settings, client: CcfsClient, storage: Storage, key_reader: Threads) -> Downloader:
    keys = wiring.keyring(settings.credentials, key_reader, patience=settings.storage.hang_after)
    return Downloader(keys=keys, source=client, store=storage, job_timeout=settings.job_timeout)


@asynccontextmanager
async def _serve(settings: Settings, overview: Overview) -> AsyncIterator[int]:
    server = web.serve(
        settings.http.host,
        settings.http.port,
        checks=overview.checks,
        render=overview.metrics.render,
        status=overview.report,
        allowed_hosts=settings.http.allowed_hosts,
    )
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(server)
        except OSError as exc:
            address = f"{settings.http.host}:{settings.http.port}"
            raise SettingsError(
                [f"WORKER_HTTP__PORT: cannot listen on {address}: {os.strerror(exc.errno or 0)}"]
            ) from exc
        yield port


def _warn(settings: Settings) -> None:
    for problem in unknown_variables(os.environ):
        log.warning("settings.unknown", problem=problem)
    if settings.ccfs.danger_accept_any_certificate:
        log.warning("settings.danger", problem="CC-FS's certificate is not verified")
    if settings.ccfs.base_url.startswith("http:"):
        log.warning(
            "settings.danger", problem="WORKER_CCFS__BASE_URL is plain HTTP: files travel in the clear"
        )
