"""The queue that keeps failed jobs: what lies in it, and that nothing else depends on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel
from structlog.testing import capture_logs

from schemas import read_failed_job
from tests.amqp import outside_channel, put, take
from tests.broker.conftest import Connected, Inbox
from tests.broker.test_session import BODY, delivered, insist, outcome_of
from tests.installation import Site, bill
from worker.broker import BrokerOptions, Names, open_session
from worker.core.outcome import failed_job
from worker.simulator.faults import ResultCode

HEADERS: dict[str, Any] = {"x-tenant": "blue", "x-weight": 2.5}


@asynccontextmanager
async def connected_with(options: BrokerOptions) -> AsyncIterator[Connected]:
    inbox = Inbox()
    async with open_session(
        options, on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait
    ) as session:
        await session.consume()
        yield Connected(session, inbox)


async def keep_one(connected: Connected, outside: AbstractChannel, names: Names, job_id: str) -> None:
    """Have a job fail, as far as the queue of failed jobs is concerned."""
    await put(outside, names.jobs, BODY, message_id=job_id)
    delivery, job = await delivered(connected)
    if delivery.keeps_failures:
        kept = failed_job(outcome_of(job), delivery.envelope)
        await insist(lambda: delivery.keep(kept, job))
    await delivery.ack()


async def length(outside: AbstractChannel, queue: str | None) -> int:
    assert queue
    return (await outside.declare_queue(queue, passive=True)).declaration_result.message_count or 0


async def test_a_failed_job_is_kept_with_all_of_its_job(site: Site) -> None:
    """Its body and its publisher's headers to the byte, beside the event that consumers get."""
    site.simulator.plan = lambda _: ResultCode(code="0300004")
    body = b'{"billFileName":"20260131_1.zip", "appId": "app1", "note": "caf\xc3\xa9"}'
    async with outside_channel(site.own_url) as upstream:
        await put(
            upstream, site.names.jobs, body, message_id="m1", correlation_id="c1", headers=HEADERS, priority=2
        )
        with site.worker():
            kept = await take(upstream, site.names.failed or "")
            await site.until(lambda: bool(site.ledger.outcomes["m1"]))

    failure = read_failed_job(kept.body)
    (event,) = site.ledger.outcomes["m1"]
    assert failure.job == body.decode()
    assert failure.model_dump(exclude={"job"}) == event.model_dump()
    assert (kept.correlation_id, kept.type, kept.priority) == ("c1", "download.failed", 2)
    headers = dict(kept.headers)
    assert headers.pop("x-publish-id")
    assert headers == HEADERS


async def test_a_kept_job_makes_no_event_look_routed(site: Site) -> None:
    """While no queue is bound for events, the job waits, and nothing is kept of it."""
    site.simulator.plan = lambda _: ResultCode(code="0300004")
    await site.unbind_results()
    with site.worker() as worker:
        # The worker has bound its queue again when it started.
        await worker.logged("broker.connected")
        await site.unbind_results()
        (job_id,) = await site.publish(bill(1))
        await worker.logged("job.publish_unconfirmed", job_id=job_id)
        assert await site.queue_length(site.names.failed or "") == 0
        await site.settled()
    assert site.ledger.codes[job_id] == "REQUEST_REJECTED"
    assert await site.queue_length(site.names.failed or "") == 1


async def test_what_is_no_text_or_too_large_is_kept_without_its_body(site: Site) -> None:
    bodies = {"binary": b"\xff\xfe", "large": b" " * (64 * 1024 + 1), "text": "no JSON: é".encode()}
    with site.worker():
        await site.publish_raw(bodies.items())
        await site.settled()
        kept = [read_failed_job((await site.take(site.names.failed or "")).body) for _ in bodies]

    assert {failure.job_id: failure.job for failure in kept} == {
        "binary": None,
        "large": None,
        "text": "no JSON: é",
    }


async def test_the_oldest_give_way_above_the_number_to_keep(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    few = replace(options, topology=replace(options.topology, failed_keep=2))
    async with connected_with(few) as connected:
        for number in range(4):
            await keep_one(connected, outside, names, f"m{number}")

        left = [read_failed_job((await take(outside, names.failed or "")).body).job_id for _ in range(2)]
        assert left == ["m2", "m3"]
        assert await length(outside, names.failed) == 0


async def test_another_number_uses_the_queue_as_it_is(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    """A queue's arguments cannot be changed; that is said once, and no job waits for it."""
    async with connected_with(options):
        pass
    changed = replace(options, topology=replace(options.topology, failed_keep=2))

    with capture_logs() as lines:
        async with connected_with(changed) as connected:
            for number in range(4):
                await keep_one(connected, outside, names, f"m{number}")
            assert (await connected.session.queues())[names.failed or ""].messages == 4

    (said,) = [line for line in lines if line["event"] == "broker.failed_queue"]
    assert said["used"]
    assert "x-max-length" in said["reason"]


async def test_a_deleted_queue_of_failed_jobs_is_declared_again(
    options: BrokerOptions, outside: AbstractChannel, names: Names
) -> None:
    async with connected_with(options) as connected:
        await outside.queue_delete(names.failed or "")

        await keep_one(connected, outside, names, "m1")

        assert await length(outside, names.failed) == 1
        assert not connected.session.is_lost


@pytest.mark.parametrize("why", ["turned off", "missing, and nothing is declared"])
async def test_without_the_queue_jobs_go_on(
    options: BrokerOptions, outside: AbstractChannel, names: Names, why: str
) -> None:
    without = replace(options, topology=replace(options.topology, names=replace(names, failed=None)))
    async with connected_with(without) as connected:
        await keep_one(connected, outside, names, "m1")
        assert names.failed not in await connected.session.queues()
    if why == "turned off":
        return

    async with connected_with(replace(options, declare=False)) as connected:
        await keep_one(connected, outside, names, "m2")
        assert names.failed not in await connected.session.queues()
