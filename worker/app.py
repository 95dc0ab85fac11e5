"""Runs the worker: starts its parts, waits for a signal, drains, and ends."""

import asyncio
import os
import threading
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from worker import wiring
from worker.observe import logs
from worker.runtime import drain_on_signal, end_process
from worker.settings import Settings, SettingsError, unknown_variables
from worker.wiring import Parts, Pools, Surroundings

_LEAVE_WITHIN = 5.0
"""Seconds after the grace in which jobs are given back and connections closed; then the process ends."""

log = structlog.stdlib.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Run the worker until SIGTERM, SIGINT or SIGHUP, then drain.

    Raises:
        SettingsError: Something that the settings point at cannot be used.
    """
    async with AsyncExitStack() as stack:
        draining = stack.enter_context(drain_on_signal(settings.shutdown_grace + _LEAVE_WITHIN, _leave))
        pools = wiring.pools(stack, concurrency=settings.concurrency)
        around = await _look_around(settings, pools, draining)
        if around is None:
            return
        client = await stack.enter_async_context(
            wiring.ccfs_client(settings.ccfs, around.ccfs_tls, concurrency=settings.concurrency)
        )
        tracer = await stack.enter_async_context(wiring.tracing(settings))
        parts = wiring.put_together(settings, around, client, pools, draining=draining, tracer=tracer)
        port = await stack.enter_async_context(wiring.http_server(settings, parts.overview))
        log.info("worker.started", http_port=port, concurrency=settings.concurrency)
        _warn(settings)
        await _until_drained(parts)
    log.info("worker.stopped")
    if pools.hanging:
        # The interpreter joins its threads at exit, and one that hangs in the kernel never ends.
        _leave()


async def _look_around(settings: Settings, pools: Pools, draining: asyncio.Event) -> Surroundings | None:
    """Check what the settings point at; None when a signal comes first.

    Raises:
        SettingsError: It cannot be used, or does not answer in time.
    """
    log.debug("worker.looking")
    patience = settings.storage.hang_after
    looking = pools.lookout.start(partial(wiring.look_around, settings, pools))
    signalled = asyncio.create_task(draining.wait())
    either: list[asyncio.Future[Any]] = [looking, signalled]
    await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if draining.is_set():
        return None
    if looking.done():
        return looking.result()
    line = (
        f"WORKER_STORAGE__ROOT: {settings.storage.root}, or the directory of WORKER_CREDENTIALS__DIR, "
        f"does not answer within {patience:g} s: see whether its file server does"
    )
    raise SettingsError([line])


async def _until_drained(parts: Parts) -> None:
    """Run all parts until the supervisor has drained. The others run for ever, and are cancelled then."""
    background = (
        parts.descriptors.run(),
        parts.upstream.run(),
        parts.keys.run(),
        parts.accounts.run(),
        parts.members.run(),
        parts.volume.run(),
        parts.volume.sweep_hourly(),
        parts.overview.keep_rates(),
    )
    async with asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(work) for work in background]
        await parts.supervisor.run()
        for task in others:
            task.cancel()


def _warn(settings: Settings) -> None:
    for problem in unknown_variables(os.environ):
        log.warning("settings.unknown", problem=problem)
    if settings.ccfs.danger_accept_any_certificate:
        log.warning("settings.danger", problem="CC-FS's certificate is not verified")
    if settings.ccfs.base_url.startswith("http:"):
        log.warning(
            "settings.danger", problem="WORKER_CCFS__BASE_URL is plain HTTP: files travel in the clear"
        )


def _leave() -> None:
    end_process(_say_left)


def _say_left() -> None:
    # Without this thread and the main one.
    log.warning("worker.left", threads=threading.active_count() - 2)
    logs.flush()
