"""A broker that goes away, keeps silent or gives no more room: downloads go on, and nothing is lost."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from devkit.run.rabbitmq import PrivateRabbitMQ
from devkit.run.worker_process import Line, WorkerProcess
from schemas import DownloadCompleted
from tests.faults.node import own_node
from tests.faults.proxy import Proxy
from tests.installation import Site, bill
from worker.simulator.faults import HeldAnswer, ShortBody

HEARTBEAT = 4
JOBS = 6
TIERS = (0.2, 0.4, 0.8)


class Held:
    """Downloads that wait in mid-body until they are let go."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._holds = [HeldAnswer() for _ in range(JOBS)]
        site.simulator.plan = lambda request: self._holds[int(request.bill_file_name[9:17])]

    async def begin(self) -> None:
        """Publish the jobs, and wait until all are under way."""
        await self._site.publish(*(bill(number) for number in range(JOBS)))
        for hold in self._holds:
            await hold.reached.wait()

    def let_go(self) -> None:
        for hold in self._holds:
            hold.release.set()


@pytest.fixture
def node() -> Iterator[PrivateRabbitMQ]:
    """A node for each test: one of 3.10 was seen to declare no new queue any more once it was restarted."""
    with own_node() as running:
        yield running


@pytest.fixture
def held(site: Site) -> Held:
    return Held(site)


async def check_all_done_once(site: Site) -> None:
    """Every job is done, and CC-FS was asked for each file only once."""
    counts = await site.settled()
    assert (counts.completed, counts.sound) == (JOBS, True)
    assert len(site.simulator.requests) == JOBS


@pytest.mark.parametrize("end", [PrivateRabbitMQ.stop, PrivateRabbitMQ.kill], ids=["stopped", "killed"])
async def test_a_broker_that_restarts(site: Site, held: Held, node: PrivateRabbitMQ, end: object) -> None:
    """Downloads under way go on without it, and their events follow when it is back."""
    assert callable(end)
    with site.worker() as worker:
        await held.begin()
        await asyncio.to_thread(node.sync_queues)
        await asyncio.to_thread(end, node)
        checks = await worker.readiness(503)
        held.let_go()
        await worker.logged("job.delivery_lost", count=JOBS)
        await asyncio.to_thread(node.start)
        await worker.readiness()
        await check_all_done_once(site)

    assert "cannot be reached" in checks["broker"]["detail"] or "closed" in checks["broker"]["detail"]


async def test_a_connection_that_is_reset(site: Site, held: Held, amqp: Proxy) -> None:
    with site.worker() as worker:
        await held.begin()
        amqp.reset()
        await worker.logged("broker.connected", count=2)
        await worker.logged("job.redelivered", count=JOBS)
        held.let_go()
        await check_all_done_once(site)


@pytest.mark.parametrize(
    "seconds", [pytest.param(15, id="15s"), pytest.param(60, id="60s", marks=pytest.mark.whole)]
)
async def test_a_line_that_goes_silent(site: Site, held: Held, amqp: Proxy, seconds: float) -> None:
    """Noticed within three heartbeats; the running downloads survive and are not requested again."""
    # The held downloads are silent too, for longer than CC-FS may be by default.
    patient = {"CCFS__IDLE_TIMEOUT": "600"}
    with site.worker(AMQP__HEARTBEAT=str(HEARTBEAT), AMQP__CONNECT_TIMEOUT="2", **patient) as worker:
        await held.begin()
        amqp.silence()
        silent_since = datetime.now().astimezone()
        noticed = await worker.logged("broker.lost")
        await asyncio.sleep(seconds - (when(noticed) - silent_since).total_seconds())
        amqp.cut()
        amqp.speak()
        await worker.logged("job.redelivered", count=JOBS)
        held.let_go()
        await check_all_done_once(site)

    assert (when(noticed) - silent_since).total_seconds() <= 3 * HEARTBEAT


def when(line: Line) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


async def test_a_queue_that_is_deleted_and_made_anew(site: Site, held: Held) -> None:
    """What was in hand has its outcomes; what upstream publishes from then on is done as well."""
    with site.worker() as worker:
        await held.begin()
        await site.delete_jobs_queue()
        await worker.logged("broker.completed")
        held.let_go()
        await check_all_done_once(site)
        await site.publish(*(bill(number) for number in range(JOBS)))
        await site.settled()

        assert "broker.lost" not in {line["event"] for line in worker.lines()}
    assert len(site.simulator.requests) == JOBS


async def test_results_that_no_queue_takes(site: Site) -> None:
    """The job stays, readiness says why, and it comes right once somebody binds a queue."""
    # A worker that declares would bind it by itself.
    with site.worker(AMQP__DECLARE="false") as worker:
        await worker.readiness()
        await site.unbind_results()
        await site.publish(bill(1))
        checks = await worker.readiness(503)
        assert "no queue takes" in checks["results"]["detail"]
        assert await site.queue_length(site.names.jobs) == 0

        await site.bind_results()
        counts = await site.settled()
        await worker.readiness()

    assert (counts.completed, counts.sound) == (1, True)


@asynccontextmanager
async def short_of_memory(node: PrivateRabbitMQ) -> AsyncIterator[None]:
    """An alarm: the broker reads nothing more from connections that publish."""
    await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", "0.4")


async def check_nothing_was_multiplied(site: Site, worker: WorkerProcess) -> None:
    """Every job has one outcome, and nothing that could become another waits anywhere."""
    await site.settled()
    worker.signal(signal.SIGTERM)
    assert await worker.exited() == 0
    queues = [site.names.jobs, site.names.dropped, site.names.results_queue, *map(site.names.tier, TIERS)]
    assert [name for name in queues if name and await site.queue_length(name)] == []
    assert (await site.settled()).duplicated == 0


@pytest.mark.parametrize(
    "seconds", [pytest.param(3, id="3s"), pytest.param(30, id="30s", marks=pytest.mark.whole)]
)
async def test_a_broker_short_of_memory(
    site: Site, held: Held, node: PrivateRabbitMQ, seconds: float
) -> None:
    """Publishers are blocked for many times the publish timeout: each event waits, and comes once."""
    with site.worker(AMQP__PUBLISH_TIMEOUT="0.2", AMQP__HEARTBEAT=str(HEARTBEAT)) as worker:
        await held.begin()
        async with short_of_memory(node):
            held.let_go()
            await worker.logged("broker.confirms_late")
            checks = await worker.readiness(503)
            await asyncio.sleep(seconds)
        await check_all_done_once(site)
        await worker.readiness()
        assert "broker.lost" not in {line["event"] for line in worker.lines()}
        await check_nothing_was_multiplied(site, worker)

    assert "has not confirmed a message since" in checks["results"]["detail"]


async def test_retries_wait_for_a_broker_short_of_memory(site: Site, node: PrivateRabbitMQ) -> None:
    """Each job has one copy in its tier, however many publish timeouts pass until it is confirmed."""
    site.simulator.plan = lambda request: ShortBody() if request.count == 1 else None
    await site.publish(*(bill(number) for number in range(JOBS)))
    async with short_of_memory(node):
        with site.worker(AMQP__PUBLISH_TIMEOUT="0.2", AMQP__HEARTBEAT=str(HEARTBEAT)) as worker:
            await worker.logged("broker.confirms_late")
            await worker.logged("job.retried", count=JOBS)
            # The fault: silence for 15 publish timeouts. Nothing may happen, so no event can be awaited.
            await asyncio.sleep(3)
            await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", "0.4")
            await check_nothing_was_multiplied(site, worker)

    assert len(site.simulator.requests) == 2 * JOBS


async def test_a_session_lost_before_a_late_confirm(
    site: Site, held: Held, node: PrivateRabbitMQ, amqp: Proxy
) -> None:
    """What waits for its confirm ends with the session; its redelivery ends in the outcome."""
    with site.worker(AMQP__PUBLISH_TIMEOUT="0.2", AMQP__HEARTBEAT=str(HEARTBEAT)) as worker:
        await held.begin()
        async with short_of_memory(node):
            held.let_go()
            await worker.logged("broker.confirms_late")
            amqp.reset()
            await worker.logged("job.delivery_lost", count=JOBS)
            await worker.logged("job.redelivered", count=JOBS)
        await check_all_done_once(site)


@pytest.fixture
async def impatient(node: PrivateRabbitMQ) -> AsyncIterator[None]:
    """A broker that takes messages away after a second; it looks twice a second."""
    await asyncio.to_thread(node.start)
    await configure(node, consumer_timeout=1_000, channel_tick_interval=500)
    yield
    await configure(node, consumer_timeout=1_800_000, channel_tick_interval=60_000)


async def configure(node: PrivateRabbitMQ, **milliseconds: int) -> None:
    for name, value in milliseconds.items():
        await asyncio.to_thread(node.rabbitmqctl, "eval", f"application:set_env(rabbit, {name}, {value}).")


async def test_a_results_queue_deleted_by_somebody(site: Site) -> None:
    """It is declared again for the first event that comes back."""
    with site.worker() as worker:
        await worker.readiness()
        await site.unbind_results()
        await site.publish(bill(1))
        counts = await site.settled()
        await worker.readiness()

    assert (counts.completed, counts.sound) == (1, True)


@pytest.mark.usefixtures("impatient")
async def test_a_job_longer_than_the_consumer_timeout(site: Site, node: PrivateRabbitMQ) -> None:
    """The broker gives the message out again, and that joins the running download; 4.3 leaves it to us."""
    stuck = HeldAnswer()
    site.simulator.plan = lambda _: stuck
    version = await asyncio.to_thread(node.rabbitmqctl, "eval", "rabbit_misc:version().")
    takes_away = tuple(map(int, version.strip().strip('"').split(".")[:2])) < (4, 3)
    with site.worker() as worker:
        (job_id,) = await site.publish(bill(1))
        await stuck.reached.wait()
        if takes_away:
            await worker.logged("job.redelivered")
        else:
            # Five consumer timeouts. Here they take nothing away, so there is no event to wait for.
            await asyncio.sleep(5)
        stuck.release.set()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)
    assert isinstance(site.ledger.outcomes[job_id][0], DownloadCompleted)
    assert (len(site.simulator.requests), counts.duplicated) == (1, 0)
