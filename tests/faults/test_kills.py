"""Workers that die: whatever they had in hand ends in an outcome all the same."""

import signal

from aio_pika.abc import AbstractIncomingMessage

from schemas import DownloadCompleted, ErrorCode
from tests.faults.proxy import Proxy
from tests.installation import APP, DELIVERY_LIMIT, Site, bill
from worker.simulator.faults import HeldAnswer


async def test_killed_in_mid_body(site: Site) -> None:
    """What was half written is downloaded anew by the next worker."""
    half = HeldAnswer()
    site.simulator.plan = lambda request: half if request.count == 1 else None
    with site.worker() as worker:
        await site.publish(bill(1))
        await half.reached.wait()
        worker.kill()
        assert list(site.root.glob("*/*/*.zip")) == []
        worker.start()
        counts = await site.settled()

    assert (counts.completed, counts.sound, counts.duplicated) == (1, True, 0)


async def test_killed_after_the_rename_and_before_the_event(site: Site) -> None:
    """The next worker finds the file and downloads nothing."""
    with site.worker(AMQP__DECLARE="false") as worker:
        await worker.readiness()
        await site.unbind_results()
        (job_id,) = await site.publish(bill(1))
        await worker.logged("job.publish_unconfirmed")
        assert (site.root / APP / "20260131" / bill(1)).exists()
        worker.kill()
        await site.bind_results()
        worker.start()
        counts = await site.settled()

    event = site.ledger.outcomes[job_id][0]
    assert isinstance(event, DownloadCompleted)
    assert (counts.sound, event.reused) == (True, True)
    assert len(site.simulator.requests) == 1


async def test_killed_after_the_confirm_and_before_the_ack(site: Site, amqp: Proxy) -> None:
    """The event comes twice, with the same job and digest, and the file is downloaded once."""
    held = HeldAnswer()
    site.simulator.plan = lambda _: held
    with site.worker() as worker:
        (job_id,) = await site.publish(bill(1))
        await held.reached.wait()
        amqp.silence(line=1)
        held.release.set()
        await site.until(lambda: job_id in site.ledger.outcomes)
        worker.kill()
        amqp.cut()
        amqp.speak()
        worker.start()
        await site.until(lambda: len(site.ledger.outcomes[job_id]) == 2)

    first, second = site.ledger.outcomes[job_id]
    assert isinstance(first, DownloadCompleted)
    assert isinstance(second, DownloadCompleted)
    assert (first.sha256, first.reused, second.reused) == (second.sha256, False, True)
    counts = await site.settled()
    assert (counts.sound, counts.duplicated) == (True, 1)
    assert len(site.simulator.requests) == 1


async def test_a_job_that_kills_each_worker_ends_and_others_flow(site: Site) -> None:
    """A crash loop ends in DELIVERY_LIMIT: told, parked, and the jobs beside it are done."""
    poison, *others = (bill(number) for number in range(5))
    site.simulator.plan = lambda _: HeldAnswer()
    with site.worker() as worker:
        (poison_id,) = await site.publish(poison)
        for _ in range(DELIVERY_LIMIT + 1):
            await worker.logged("job.received", job_id=poison_id)
            worker.kill()
            worker.start()
        site.simulator.plan = lambda _: None
        await site.publish(*others)
        counts = await site.settled()

    assert (counts.completed, counts.failed, counts.sound) == (4, 1, True)
    assert site.ledger.codes[poison_id] == ErrorCode.DELIVERY_LIMIT
    parked = await site.take(site.names.dead)
    assert _reason(parked) == "DELIVERY_LIMIT"


def _reason(message: AbstractIncomingMessage) -> object:
    return message.headers["x-dead-reason"]


async def test_ten_downloads_under_way_at_sigterm(site: Site) -> None:
    """Those within the grace finish, the others go back, and the next worker finishes everything."""
    holds = [HeldAnswer() for _ in range(15)]
    site.simulator.plan = lambda request: holds[int(request.bill_file_name[9:17])]
    with site.worker(CONCURRENCY="10", SHUTDOWN_GRACE="2") as worker:
        await site.publish(*(bill(number) for number in range(15)))
        for hold in holds[:10]:
            await hold.reached.wait()
        worker.signal(signal.SIGTERM)
        await worker.logged("worker.draining")
        for hold in holds[:6]:
            hold.release.set()
        assert await worker.exited() == 0
        await site.until(lambda: len(site.ledger.outcomes) == 6)
        assert len(site.simulator.requests) == 10

    for hold in holds:
        hold.release.set()
    with site.worker():
        counts = await site.settled()
    assert (counts.completed, counts.sound, counts.duplicated) == (15, True, 0)


async def test_two_workers_and_the_same_job_twice(site: Site) -> None:
    """One file with the right digest, and an outcome for each message."""
    held = [HeldAnswer(), HeldAnswer()]
    waiting = iter(held)
    site.simulator.plan = lambda _: next(waiting, None)
    with site.worker("one", CONCURRENCY="1"), site.worker("two", CONCURRENCY="1"):
        await site.publish_raw([("first", site.body(bill(1))), ("second", site.body(bill(1)))])
        for hold in held:
            await hold.reached.wait()
        for hold in held:
            hold.release.set()
        counts = await site.settled()

    first, second = (site.ledger.outcomes[job_id][0] for job_id in ("first", "second"))
    assert isinstance(first, DownloadCompleted)
    assert isinstance(second, DownloadCompleted)
    assert first.sha256 == second.sha256
    assert (counts.completed, counts.sound) == (2, True)
    assert site.leftovers() == []
