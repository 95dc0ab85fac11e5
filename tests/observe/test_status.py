"""`GET /status` of a real worker."""

import asyncio
import time
from collections.abc import Callable

import pytest
from yarl import URL

from devkit.run.worker_process import WorkerProcess
from tests.faults.proxy import open_proxy
from tests.installation import APP, PATIENCE, Site, bill
from worker.observe.status import State, Status, Step
from worker.simulator.faults import Fault, HeldAnswer, ResultCode

MIB = 1024**2


async def status(worker: WorkerProcess) -> Status:
    answered, body = await worker.get("/status")
    assert answered == 200
    return Status.model_validate_json(body)


async def status_once(worker: WorkerProcess, condition: Callable[[Status], bool]) -> Status:
    """Ask until it is so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            seen = await status(worker)
            if condition(seen):
                return seen
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("simulator_options", [8 * MIB], indirect=True)
async def test_a_job_in_flight_shows_how_far_it_has_come(site: Site) -> None:
    stuck = HeldAnswer()
    site.simulator.plan = lambda _: stuck
    with site.worker() as worker:
        (job_id,) = await site.publish(bill(1))
        await stuck.reached.wait()
        seen = await status_once(worker, lambda seen: bool(seen.jobs and seen.jobs[0].received_bytes))
        stuck.release.set()
        await site.settled()
        after = await status_once(worker, lambda seen: not seen.jobs)

    (held,) = seen.jobs
    assert (held.job_id, held.app_id, held.bill_file_name, held.attempt) == (job_id, APP, bill(1), 1)
    assert held.step is Step.DOWNLOADING
    assert held.announced_bytes == 8 * MIB
    assert 0 < held.received_bytes < 8 * MIB
    assert held.since < seen.now
    assert [(one.app_id, one.in_hand, one.waiting) for one in seen.accounts] == [(APP, 1, 0)]
    assert (seen.state, seen.intake.in_flight, seen.intake.downloads) == (State.WORKING, 1, 1)
    assert seen.checks.keys() == {"broker", "intake", "results", "ccfs"}
    assert all(check.ok for check in seen.checks.values())
    assert (after.totals.completed, after.totals.downloaded_bytes) == (1, 8 * MIB)
    assert after.session.opened == 1
    assert after.runbook.endswith("/docs/runbook.md")


async def test_failures_show_by_code_and_what_waits_by_queue(site: Site) -> None:
    answers: list[Fault] = [ResultCode(code="0300012"), ResultCode(code="0300004")]
    site.simulator.plan = lambda _: answers.pop()
    with site.worker(CONCURRENCY="1", RETRY__DELAYS="[600]") as worker:
        await site.publish(bill(1), bill(2))
        waiting = f"{site.names.jobs}.retry.600s"
        seen = await status_once(worker, lambda seen: seen.queues.ready.get(waiting) == 1)

    assert seen.totals.attempts_failed == {"REQUEST_REJECTED": 1, "FILE_NOT_FOUND": 1}
    assert seen.totals.outcomes_failed == {"REQUEST_REJECTED": 1}
    assert seen.queues.ready[site.names.jobs] == 0
    assert seen.queues.age_seconds is not None
    assert seen.queues.roles[waiting] == "retry"
    (failure,) = seen.failures
    assert (failure.app_id, failure.code) == (APP, "REQUEST_REJECTED")
    assert failure.at <= seen.now
    assert [(one.app_id, one.failed) for one in seen.accounts] == [(APP, 1)]


async def test_a_pause_shows_its_reason(site: Site) -> None:
    with site.worker(STORAGE__MIN_FREE_BYTES=str(2**60)) as worker:
        seen = await status_once(worker, lambda seen: seen.state is State.PAUSED)
        metrics = (await worker.get("/metrics"))[1]

    assert "are free, and" in seen.intake.pauses["storage"]
    assert seen.intake.paused_since["storage"] <= seen.now
    assert not seen.checks["intake"].ok
    assert seen.storage.free_bytes is not None
    assert 'ccfs_worker_intake_paused{reason="storage"} 1.0' in metrics
    assert 'ccfs_worker_intake_paused{reason="upstream"} 0.0' in metrics
    assert 'ccfs_worker_check_ok{check="intake"} 0.0' in metrics
    assert seen.storage.size_bytes is not None
    assert seen.storage.free_bytes <= seen.storage.size_bytes


async def test_a_scrape_shows_queues_volume_and_certificate(site: Site) -> None:
    def value(metrics: str, name: str) -> float:
        return next(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name))

    jobs = f'ccfs_worker_queue_messages{{queue="{site.names.jobs}"}}'
    with site.worker(RETRY__DELAYS="[600]") as worker:
        await site.publish(bill(1))
        await site.settled()
        # A status asks for the numbers that a scrape then has.
        await status_once(worker, lambda seen: seen.queues.age_seconds is not None)
        _, metrics = await worker.get("/metrics")

    assert value(metrics, jobs) == 0
    assert value(metrics, f'ccfs_worker_queue_messages{{queue="{site.names.jobs}.retry.600s"}}') == 0
    assert (
        0
        < value(metrics, "ccfs_worker_storage_free_bytes")
        <= value(metrics, "ccfs_worker_storage_size_bytes")
    )
    assert value(metrics, "ccfs_worker_ccfs_certificate_end_seconds") > time.time()
    assert value(metrics, "ccfs_worker_oldest_job_seconds") == 0


async def test_a_silent_broker_holds_up_no_status(site: Site) -> None:
    """A question of it may take two seconds: all who ask share one, and for a while nobody puts another."""
    broker = URL(site.url)
    async with open_proxy(broker.host or "", broker.port or 0) as amqp:
        url = str(broker.with_host("127.0.0.1").with_port(amqp.port))
        with site.worker(AMQP__URL=url, AMQP__HEARTBEAT="300") as worker:
            await status_once(worker, lambda seen: seen.queues.age_seconds is not None)
            amqp.silence()
            await status_once(worker, lambda seen: (seen.queues.age_seconds or 0) > 2)
            # Twenty questions one after another would take forty seconds.
            async with asyncio.timeout(20):
                await asyncio.gather(*(status(worker) for _ in range(10)))
                seen = [await status(worker) for _ in range(10)]
            amqp.speak()
            answered = await status_once(worker, lambda seen: (seen.queues.age_seconds or 99) < 2)

    assert all(report.session.connected for report in seen)
    assert seen[-1].queues.ready.keys() == answered.queues.ready.keys()


async def test_a_worker_without_its_broker_still_answers(site: Site) -> None:
    with site.worker(AMQP__URL="amqp://guest:guest@127.0.0.1:1/") as worker:
        seen = await status_once(worker, lambda seen: "cannot be reached" in seen.checks["broker"].detail)

    assert (seen.state, seen.session.connected, seen.session.opened) == (State.DISCONNECTED, False, 0)
    assert (seen.queues.ready, seen.queues.age_seconds) == ({}, None)
