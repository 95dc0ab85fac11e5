"""What the supervisor tells of the session that it holds, and how it ends."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from schemas import DownloadJob, read_outcome
from tests.amqp import put, take
from tests.broker.breaking import Breaks, open_breaker
from tests.broker.test_session import BODY
from tests.faults.proxy import open_proxy
from worker.broker import BrokerOptions, Names
from worker.broker.topology import declare
from worker.core.accounts import Accounts, HoldPolicy
from worker.core.deliveries import Deliveries
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.outcome import StoredFile
from worker.core.pace import Pace
from worker.core.progress import Progress
from worker.core.retry import RetryPolicy
from worker.errors import DeferredError
from worker.observe.metrics import Metrics
from worker.supervisor import Supervisor


async def refuse(_: DownloadJob, __: Progress) -> StoredFile:
    raise DeferredError("no job is expected")


FILE = StoredFile(path="app1/20260131/20260131_a.zip", size_bytes=3, sha256="0" * 64, reused=False)


class HeldDownload:
    """A download that ends when it may."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def fetch(self, _: DownloadJob, __: Progress) -> StoredFile:
        self.begun.set()
        await self.go_on.wait()
        return FILE


async def outcome_of_m1(outside: AbstractChannel, names: Names) -> None:
    """Wait for the event of the job that was published as m1."""
    assert names.results_queue
    assert read_outcome((await take(outside, names.results_queue)).body).job_id == "m1"


def deliveries_of(fetch: Callable[[DownloadJob, Progress], Awaitable[StoredFile]], gate: Gate) -> Deliveries:
    metrics = Metrics("0")
    pace = Pace(concurrency=4, per_app=4, patience=60, clock=asyncio.get_running_loop().time)
    accounts = Accounts(HoldPolicy(), clock=lambda: datetime.now(UTC))
    downloads = Downloads(fetch, pace=pace, gate=gate, accounts=accounts, watches=(), observer=metrics)
    return Deliveries(
        downloads,
        policy=RetryPolicy(delays=(10.0, 60.0)),
        observer=metrics,
        host="w1",
        clock=lambda: datetime.now(UTC),
    )


def supervisor_of(
    options: BrokerOptions,
    draining: asyncio.Event,
    fetch: Callable[[DownloadJob, Progress], Awaitable[StoredFile]] = refuse,
    grace: float = 0,
    deliveries: Deliveries | None = None,
) -> Supervisor:
    gate = Gate()
    deliveries = deliveries or deliveries_of(fetch, gate)
    return Supervisor(
        options, deliveries=deliveries, gate=gate, draining=draining, grace=grace, on_session=lambda: None
    )


async def declare_all(options: BrokerOptions) -> None:
    async with await aio_pika.connect(options.url) as connection:
        await declare(connection, options.topology, passive=False, timeout=60)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - each round of the loop counts
        await asyncio.sleep(0)


async def test_a_lost_session_has_a_reason_at_every_moment(options: BrokerOptions) -> None:
    """A probe may come between the loss and its notice."""
    draining = asyncio.Event()
    address = urlsplit(options.url)
    async with open_proxy(address.hostname or "", address.port or 0) as line, asyncio.timeout(60):
        near = f"amqp://guest:guest@127.0.0.1:{line.port}{address.path}"
        supervisor = supervisor_of(replace(options, url=near), draining)
        running = asyncio.create_task(supervisor.run())
        await until(lambda: not supervisor.pause())
        line.cut()
        await until(lambda: bool(supervisor.pause()))
        reason = supervisor.problem()
        draining.set()
        await running

    assert "closed the connection" in reason


async def test_a_deleted_queue_pauses_until_it_is_declared(
    outside: AbstractChannel, names: Names, options: BrokerOptions
) -> None:
    """The session lives; readiness says what is missing, where the worker may not declare it."""
    await declare_all(options)
    draining = asyncio.Event()
    supervisor = supervisor_of(replace(options, declare=False), draining)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(60):
        await until(lambda: not supervisor.pause())
        await outside.queue_delete(names.jobs)
        await until(lambda: f"the queue {names.jobs} does not exist: make it" in supervisor.pause())
        assert supervisor.problem() == ""
        await declare_all(options)
        await until(lambda: not supervisor.pause())
        draining.set()
        await running


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400\r\n\r\n"], ids=["silent", "not AMQP"])
@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
async def test_the_end_does_not_wait_for_a_connection(
    options: BrokerOptions, scheme: str, answer: bytes
) -> None:
    """Whatever takes the call and then says nothing of use, a stop comes through."""
    called = asyncio.Event()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        called.set()
        with suppress(OSError):
            await reader.read(-1)
        writer.close()

    draining = asyncio.Event()
    async with await asyncio.start_server(keep, "127.0.0.1", 0) as server:
        url = f"{scheme}://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        tls = ssl.create_default_context() if scheme == "amqps" else None
        silent = replace(options, url=url, tls=tls, connect_timeout=3600)
        running = asyncio.create_task(supervisor_of(silent, draining).run())
        await called.wait()
        draining.set()
        async with asyncio.timeout(60):
            await running


async def test_the_end_does_not_wait_for_a_broker_that_falls_silent(options: BrokerOptions) -> None:
    """Behind any frame of the set-up."""
    address = urlsplit(options.url)
    patient = replace(options, connect_timeout=3600, answer_timeout=3600, heartbeat=300)
    for after in range(1, 30, 4):
        draining = asyncio.Event()
        async with open_breaker(address.geturl(), Breaks.SILENCE, after) as line, asyncio.timeout(60):
            supervisor = supervisor_of(replace(patient, url=line.url), draining)
            running = asyncio.create_task(supervisor.run())
            await line.broken.wait()
            draining.set()
            await running


async def test_a_drain_keeps_its_grace_when_stopping_is_not_answered(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    """The broker falls silent as the worker drains: what is in hand still has its time."""
    download, draining = HeldDownload(), asyncio.Event()
    supervisor = supervisor_of(options, draining, download.fetch, grace=3600)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(60):
        await until(lambda: not supervisor.pause())
        await put(outside, names.jobs, BODY, message_id="m1")
        await download.begun.wait()
        checking = asyncio.create_task(supervisor.queues())
        await asyncio.sleep(0)
        checking.cancel()
        draining.set()
        await until(lambda: supervisor.pause() == "draining")
        download.go_on.set()
        await running

    await outcome_of_m1(outside, names)
    assert (await outside.declare_queue(names.jobs, passive=True)).declaration_result.message_count == 0


async def test_a_job_that_outlives_sessions_is_in_hand_once(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    download, draining = HeldDownload(), asyncio.Event()
    deliveries = deliveries_of(download.fetch, Gate())
    address = urlsplit(options.url)
    async with open_proxy(address.hostname or "", address.port or 0) as line, asyncio.timeout(120):
        near = f"amqp://guest:guest@127.0.0.1:{line.port}{address.path}"
        supervisor = supervisor_of(replace(options, url=near), draining, deliveries=deliveries)
        running = asyncio.create_task(supervisor.run())
        await until(lambda: not supervisor.pause())
        await put(outside, names.jobs, BODY, message_id="m1")
        await download.begun.wait()
        for _ in range(2):
            line.cut()
            await until(lambda: not deliveries.in_hand)
            await until(lambda: bool(deliveries.in_hand))
        seen = [held.job.job_id for held in deliveries.in_hand], deliveries.in_flight
        download.go_on.set()
        await outcome_of_m1(outside, names)
        draining.set()
        await running

    assert seen == (["m1"], 1)


async def test_a_job_outlives_its_queue_and_then_its_session(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    """No queue gives it out again, so that the next session has to publish its outcome."""
    download, draining = HeldDownload(), asyncio.Event()
    address = urlsplit(options.url)
    async with open_proxy(address.hostname or "", address.port or 0) as line, asyncio.timeout(120):
        near = f"amqp://guest:guest@127.0.0.1:{line.port}{address.path}"
        supervisor = supervisor_of(replace(options, url=near), draining, download.fetch)
        running = asyncio.create_task(supervisor.run())
        await until(lambda: not supervisor.pause())
        await put(outside, names.jobs, BODY, message_id="m1")
        await download.begun.wait()
        await outside.queue_delete(names.jobs)
        await until(lambda: supervisor.pause() != "")
        await until(lambda: not supervisor.pause())
        line.cut()
        await until(lambda: supervisor.pause() != "")
        download.go_on.set()
        await outcome_of_m1(outside, names)
        draining.set()
        await running
