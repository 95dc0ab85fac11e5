"""`results`: copies of the outcomes, for an onlooker."""

import json
from socket import gethostname
from typing import Any

import pytest
from aio_pika import Message
from aio_pika.exceptions import DeliveryError

from devkit.run.broker import Broker
from tests.amqp import outside_channel
from tests.broker.test_session import close_connection
from tests.cli.conftest import Run, following
from tests.installation import APP, Site, bill
from worker.simulator.faults import ResultCode

READY = "following"
FAILED = b"""{
    "status": "failed", "jobId": "m1", "appId": "app1", "billFileName": null, "errorCode": "INVALID_JOB",
    "errorMessage": "no file name", "resultCode": null, "httpStatus": null, "attempts": 1,
    "startedAt": "2026-01-31T08:15:00.000Z", "finishedAt": "2026-01-31T08:15:00.000Z", "worker": "w"
}"""


async def test_outcomes_are_shown_and_taken_from_nobody(site: Site) -> None:
    async with following(site, "results", "--count", "2", "--output", "json", until=READY) as results:
        with site.worker():
            published = await site.publish(bill(1), bill(2))
            await site.settled()
        shown = [json.loads(await results.line()) for _ in published]
        assert await results.ended() == 0

    assert {outcome["jobId"] for outcome in shown} == set(published) == set(site.ledger.outcomes)
    assert {outcome["status"] for outcome in shown} == {"completed"}


async def test_filters_let_through_what_was_asked_for(site: Site) -> None:
    site.add_key("app2", "secret-2")
    codes = {bill(2): "0300004", bill(3): "0300011", bill(4): "0300004"}
    site.simulator.plan = lambda request: (
        ResultCode(code=codes[request.bill_file_name]) if request.bill_file_name in codes else None
    )
    arguments = ("results", "--output", "json", "--count", "1")
    async with (
        following(site, *arguments, "--app", "app2", "--status", "failed", until=READY) as of_app2,
        following(site, *arguments, "--code", "FILE_NOT_FOUND", until=READY) as not_found,
        following(site, *arguments, "--status", "completed", until=READY) as completed,
    ):
        with site.worker(RETRY__DELAYS="[]"):
            await site.publish(bill(2), bill(3))
            await site.publish(bill(1), bill(4), app_id="app2")
            await site.settled()

        async def file(results: Any) -> str:
            return str(json.loads(await results.line())["billFileName"])

        assert await file(of_app2) == bill(4)
        assert await file(not_found) == bill(3)
        assert await file(completed) == bill(1)


async def test_a_person_gets_a_line_for_each(site: Site) -> None:
    async with following(site, "results", until=READY) as results:
        with site.worker():
            await site.publish(bill(1), app_id="stranger")
            await site.settled()
            await site.publish(bill(1))
            await site.settled()
        failed, completed = await results.line(), await results.line()
        results.interrupt()
        assert await results.ended() == 130

    assert failed.startswith(f"✗ stranger {bill(1)}: UNKNOWN_APP: ")
    assert completed.startswith(f"✓ {APP}/20260131/{bill(1)} (65,536 bytes, attempt 1)")


async def test_what_is_no_outcome_is_told_and_does_not_end_it(site: Site, prefix: str) -> None:
    """Someone else may publish there, too."""
    async with outside_channel(site.own_url) as channel:
        exchange = await channel.declare_exchange(f"{prefix}.others", "topic", auto_delete=True)
        async with following(
            site,
            "results",
            "--count",
            "1",
            "--even-if-nobody-else",
            until=READY,
            AMQP__RESULTS_EXCHANGE=exchange.name,
        ) as results:
            for body in (b"\x1b[31mnonsense", FAILED):
                await exchange.publish(Message(body), "failed")
            assert (await results.line()).startswith("✗ app1 ?: INVALID_JOB: no file name")
            assert await results.ended() == 0
            assert results.process.stderr
            complaint = (await results.process.stderr.read()).decode()

    assert "no outcome of this contract" in complaint
    assert "\x1b" not in complaint


async def test_it_ends_after_the_time_given(run: Run) -> None:
    followed = await run("results", "--timeout", "0.2")

    assert (followed.returncode, followed.stdout) == (0, "")


async def test_a_missing_exchange_is_named(run: Run) -> None:
    followed = await run("results", AMQP__RESULTS_EXCHANGE="no.such.exchange")

    assert followed.returncode == 3
    assert "the exchange no.such.exchange does not exist: a worker makes it" in followed.stderr


async def test_a_lost_connection_ends_it_with_a_word(site: Site, rabbitmq: Broker) -> None:
    """It could not tell what was published meanwhile."""
    if rabbitmq.node is None:
        pytest.skip("needs a broker whose connections we may close")
    async with following(site, "results", until=READY) as results:
        await close_connection(rabbitmq, f"ccfs-worker {gethostname()} results")
        assert await results.ended() == 3
        assert results.process.stderr
        said = (await results.process.stderr.read()).decode()

    assert "the connection with RabbitMQ broke" in said


@pytest.mark.parametrize(
    "arguments", [("results", "--timeout", "30"), ("submit", APP, bill(2), "--wait", "--timeout", "30")]
)
async def test_an_event_without_a_home_is_not_followed(
    site: Site, run: Run, arguments: tuple[str, ...]
) -> None:
    """With its queue, an event would look routed to the worker, and be gone afterwards."""
    off = {"AMQP__RESULTS_QUEUE_ENABLED": "false"}
    await site.unbind_results()
    with site.worker(**off) as worker:
        (job_id,) = await site.publish(bill(1))
        await worker.logged("job.publish_unconfirmed", job_id=job_id)

        refused = await run(*arguments, **off)
        assert refused.returncode == 3
        assert "say --even-if-nobody-else" in refused.stderr
        assert "published" not in refused.stderr

        await site.bind_results()
        await site.settled()
    assert set(site.ledger.outcomes) == {job_id}


async def test_a_results_queue_that_was_unbound_is_bound_before(site: Site) -> None:
    """As a worker does when it connects: what is followed is kept, too."""
    await site.unbind_results()

    async with following(site, "results", "--count", "1", "--output", "json", until=READY) as results:
        async with outside_channel(site.own_url) as channel:
            exchange = await channel.get_exchange(site.names.results)
            await exchange.publish(Message(FAILED), "failed.app1")
        assert json.loads(await results.line())["jobId"] == "m1"

    await site.until(lambda: "m1" in site.ledger.outcomes)


async def test_with_the_option_it_follows_alone(run: Run) -> None:
    followed = await run(
        "results", "--timeout", "0.2", "--even-if-nobody-else", AMQP__RESULTS_QUEUE_ENABLED="false"
    )

    assert followed.returncode == 0


async def test_what_is_not_to_be_declared_is_not_bound(site: Site, run: Run) -> None:
    await site.unbind_results()

    refused = await run("results", "--timeout", "0.2", AMQP__DECLARE="false")

    assert (refused.returncode, "WORKER_AMQP__DECLARE is false" in refused.stderr) == (3, True)
    async with outside_channel(site.own_url) as channel:
        exchange = await channel.get_exchange(site.names.results)
        with pytest.raises(DeliveryError):
            await exchange.publish(Message(FAILED), "failed.app1")
