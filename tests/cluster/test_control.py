"""The lab can fail: it sees what is lost where an upstream does not do its part."""

import asyncio

import aio_pika
import pytest

from tests.amqp import put
from tests.cluster import net
from tests.cluster.cluster import PARTED
from tests.cluster.lab import BEFORE, BOUND, Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CONFIRMED, UNCONFIRMED = 160, 40
PERSISTENT = 2


async def test_jobs_published_without_confirms_are_lost(lab: Lab) -> None:
    """Those that the leader took while it was parted from the others, before it died; and no other."""
    names, ledger = lab.site.names, lab.site.ledger
    leader = await asyncio.to_thread(lab.cluster.leader, names.jobs)
    victim = lab.cluster.nodes[leader]
    with lab.working() as workers:
        kept = await lab.site.publish_raw(lab.jobs(CONFIRMED))
        async with await aio_pika.connect(victim.url) as connection:
            channel = await connection.channel(publisher_confirms=False)
            await lab.outcomes(BEFORE)
            lab.begin()
            net.cut(leader)
            unconfirmed = lab.jobs(UNCONFIRMED)
            for job_id, body in unconfirmed:
                await put(channel, names.jobs, body, message_id=job_id, delivery_mode=PERSISTENT)
                ledger.publish(job_id)
            await asyncio.to_thread(victim.kill)
        await asyncio.sleep(PARTED)
        # Nothing of it reaches the others any more: what they have is what is left.
        assert leader not in await asyncio.to_thread(lab.cluster.known_to, lab.cluster.others(leader)[0])
        net.join(leader)
        await asyncio.to_thread(lab.cluster.start, [leader])
        # What has outlived the leader stands before these jobs.
        kept += await lab.site.publish_raw(lab.jobs(1))
        await lab.site.until(lambda: ledger.outcomes.keys() >= set(kept), BOUND)
        counts = await lab.finish(workers)
        lab.tell("control: unconfirmed jobs, partition and kill -9 of the leader of jobs", counts, workers)
    assert counts.lost > 0
    assert ledger.open_jobs <= {job_id for job_id, _ in unconfirmed}
    assert (counts.unexpected, counts.partial) == (0, 0)
    lab.cluster.fit = True
