"""Hostile messages among other faults: workers die and connections break with them in hand."""

from itertools import islice

from tests.faults import hostile
from tests.faults.proxy import Proxy
from tests.installation import APP, Site, bill

JOBS = 40


async def test_hostile_messages_with_a_kill_and_a_reset(site: Site, amqp: Proxy) -> None:
    """Each that RabbitMQ takes has an outcome, and every other job is completed."""
    for message in islice(hostile.messages(site, [APP]), hostile.A_ROUND):
        await hostile.publish(site, message)
    plain = await site.publish(*(bill(number) for number in range(JOBS)))
    with site.worker() as worker:
        await worker.logged("job.received", count=20)
        worker.kill()
        worker.start()
        await worker.logged("job.received", count=20)
        amqp.reset()
        counts = await site.settled()
        await worker.readiness()

    assert counts.sound
    assert {site.ledger.codes[job_id] for job_id in plain} == {""}
