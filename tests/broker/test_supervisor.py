"""What the supervisor tells of the session that it holds."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from aio_pika.abc import AbstractChannel

from schemas import DownloadJob
from worker.broker import BrokerOptions, Names
from worker.downloads import Downloads
from worker.errors import HeldBackError
from worker.gate import Gate
from worker.intake import Intake
from worker.metrics import Metrics
from worker.outcome import StoredFile
from worker.pace import Pace
from worker.retry import RetryPolicy
from worker.supervisor import Supervisor


async def refuse(_: DownloadJob) -> StoredFile:
    raise HeldBackError("no job is expected")


def supervisor_of(options: BrokerOptions, draining: asyncio.Event) -> Supervisor:
    gate, metrics = Gate(), Metrics("0")
    pace = Pace(concurrency=4, per_app=4, patience=60, clock=asyncio.get_running_loop().time)
    downloads = Downloads(refuse, pace=pace, gate=gate, watches=(), observer=metrics)
    intake = Intake(
        downloads,
        policy=RetryPolicy(delays=(10.0, 60.0)),
        observer=metrics,
        host="w1",
        clock=lambda: datetime.now(UTC),
    )
    return Supervisor(options, intake=intake, gate=gate, draining=draining, grace=0, on_session=lambda: None)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - each round of the loop counts
        await asyncio.sleep(0)


async def test_a_lost_session_has_a_reason_at_every_moment(
    outside: AbstractChannel, names: Names, options: BrokerOptions
) -> None:
    """A probe may come by between the loss and whoever hears of it."""
    draining = asyncio.Event()
    supervisor = supervisor_of(options, draining)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(60):
        await until(lambda: not supervisor.pause())
        deleting = asyncio.create_task(outside.queue_delete(names.jobs))
        await until(lambda: bool(supervisor.pause()))
        reason = supervisor.problem()
        draining.set()
        await asyncio.gather(running, deleting)

    assert "cancelled our consumer" in reason
