"""The lab can fail: it sees what is lost where jobs are not kept as `ccfs.jobs` keeps them."""

import asyncio

import pytest

from tests.amqp import outside_channel, put
from tests.cluster.lab import BEFORE, Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

JOBS = 200
TRANSIENT = 1


async def test_jobs_on_one_node_in_memory_are_lost(lab: Lab) -> None:
    """Transient messages in a classic queue: RabbitMQ confirms them, and loses them with its node."""
    jobs, victim = lab.site.names.jobs, lab.cluster.nodes[1]
    async with outside_channel(victim.url) as channel:
        await channel.queue_delete(jobs)
        await channel.declare_queue(jobs, durable=True)
    with lab.working(AMQP__DECLARE="false") as workers:
        async with outside_channel(victim.url) as channel:
            for job_id, body in lab.jobs(JOBS):
                await put(channel, jobs, body, message_id=job_id, delivery_mode=TRANSIENT)
                lab.site.ledger.publish(job_id)
        await lab.outcomes(BEFORE)
        lab.begin()
        await asyncio.to_thread(victim.kill)
        await asyncio.to_thread(victim.start)
        # What has outlived the node stands before the last job.
        ((last, body),) = lab.jobs(1)
        await lab.site.publish_raw([(last, body)])
        await lab.site.until(lambda: last in lab.site.ledger.outcomes)
        counts = await lab.finish(workers)
        lab.tell("control: transient jobs in a classic queue, kill -9 of its node", counts, workers)
    assert counts.lost > 0
    assert (counts.unexpected, counts.partial) == (0, 0)
    lab.cluster.fit = True
