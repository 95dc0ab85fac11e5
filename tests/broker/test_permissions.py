"""The logins that docs/rabbitmq.md gives: each may do its work, and no more."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from structlog.testing import capture_logs

from devkit.run.broker import Broker
from schemas import DownloadJob
from tests.amqp import outside_channel, put, take
from tests.broker.conftest import Inbox
from tests.broker.test_session import BODY, ERROR, outcome_of
from worker.broker import AmqpDelivery, BrokerOptions, Names, open_session
from worker.broker.connection import open_connection
from worker.broker.dead_letters import open_dead_letters
from worker.broker.failed_jobs import open_failed_jobs
from worker.broker.follow import follow
from worker.broker.inspection import inspect
from worker.broker.submission import Submission, check_jobs_queue, submit_all
from worker.broker.topology import declare
from worker.core.job import read_job
from worker.core.outcome import failed_job
from worker.core.retry import Retry

FAILED = (
    b'{"status":"failed","jobId":"m2","appId":"app1","billFileName":null,"errorCode":"TIMEOUT","errorMessage":"",'
    b'"resultCode":null,"httpStatus":null,"attempts":1,"startedAt":"2026-01-31T08:15:00.000Z",'
    b'"finishedAt":"2026-01-31T08:15:00.000Z","worker":"w","job":"{}"}'
)
PAGE = Path(__file__).parents[2] / "docs" / "rabbitmq.md"
NAMES = Names()


class Login(Protocol):
    def __call__(self, name: str, configure: str | None = None) -> str: ...


def documented() -> dict[str, list[str]]:
    """The permissions of each login: configure, write, read."""
    lines = [shlex.split(line) for line in PAGE.read_text().splitlines() if "set_permissions" in line]
    return {
        words[4]: words[5:] for words in lines if words[:3] == ["rabbitmqctl", "set_permissions", "--vhost"]
    }


@pytest.fixture
def url(rabbitmq: Broker, prefix: str) -> Iterator[str]:
    """A virtual host in which things have the names of the contract, as guest."""
    node = rabbitmq.node
    if node is None:
        pytest.skip("needs a broker whose users we may change")
    node.rabbitmqctl("add_vhost", prefix)
    node.rabbitmqctl("set_permissions", "--vhost", prefix, "guest", ".*", ".*", ".*")
    yield rabbitmq.url + prefix
    node.rabbitmqctl("delete_vhost", prefix)


@pytest.fixture
def login(rabbitmq: Broker, prefix: str, url: str) -> Login:
    """Makes a login with the permissions that the page gives it, and gives its URL."""

    def make(name: str, configure: str | None = None) -> str:
        node = rabbitmq.node
        assert node is not None
        user = f"{prefix}-{name}"
        node.rabbitmqctl("add_user", user, "secret")
        patterns = documented()[name]
        if configure is not None:
            patterns = [configure, *patterns[1:]]
        node.rabbitmqctl("set_permissions", "--vhost", prefix, user, *patterns)
        return url.replace("guest:guest", f"{user}:secret")

    return make


@pytest.fixture
def wanted(options: BrokerOptions, url: str) -> BrokerOptions:
    return replace(options, url=url, topology=replace(options.topology, names=NAMES))


@pytest.fixture
async def made(wanted: BrokerOptions) -> None:
    """Everything has been declared by somebody else."""
    async with await aio_pika.connect(wanted.url) as opened:
        await declare(opened, wanted.topology, passive=False, timeout=10)


async def check_a_worker_works(options: BrokerOptions, upstream: str) -> None:
    """Everything that a worker does at a broker, with all of its queues."""
    inbox = Inbox()
    async with (
        open_session(options, on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait) as session,
        outside_channel(upstream) as channel,
    ):
        await session.consume()
        await put(channel, NAMES.jobs, BODY)
        delivery = await inbox.jobs.get()
        job = read_job(delivery.envelope)
        await delivery.retry(Retry(0.05, 2))
        await delivery.park(ERROR, job)
        outcome = outcome_of(job)
        await delivery.publish(outcome, job)
        assert delivery.keeps_failures
        await delivery.keep(failed_job(outcome, delivery.envelope), job)
        await delivery.ack()
        await (await inbox.dropped_after(AmqpDelivery.reject)).ack()
        await session.check()
        assert not session.is_lost
    async with open_connection(options.url, name="test", heartbeat=10, timeout=10, tls=None) as opened:
        findings = await inspect(opened, options.topology, declares=options.declare, timeout=10)
    assert [finding for finding in findings if not finding.ok] == []


async def test_a_worker_may_declare_and_do_all_it_has_to(wanted: BrokerOptions, login: Login) -> None:
    await check_a_worker_works(replace(wanted, url=login("worker")), wanted.url)


async def test_a_login_of_an_earlier_release_keeps_no_failed_jobs(
    wanted: BrokerOptions, login: Login
) -> None:
    """It may not declare their queue: the worker says so, and works."""
    before = documented()["worker"][0].replace("|failed", "")
    url = login("worker", configure=before)
    inbox = Inbox()
    with capture_logs() as lines:
        async with open_session(
            replace(wanted, url=url), on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait
        ) as session:
            assert "ccfs.failed" not in await session.queues()
    (said,) = [line for line in lines if line["event"] == "broker.failed_queue"]
    assert not said["used"]
    assert "check the login's permissions" in said["reason"]


@pytest.mark.usefixtures("made")
async def test_a_worker_that_declares_nothing_needs_less(wanted: BrokerOptions, login: Login) -> None:
    await check_a_worker_works(replace(wanted, url=login("restricted"), declare=False), wanted.url)


@pytest.mark.usefixtures("made")
async def test_upstreams_may_publish_jobs_and_consumers_take_outcomes(
    wanted: BrokerOptions, login: Login
) -> None:
    async with outside_channel(login("upstream")) as upstream:
        await put(upstream, NAMES.jobs, BODY)
    async with outside_channel(wanted.url) as worker:
        results = await worker.get_exchange(NAMES.results)
        await results.publish(aio_pika.Message(b"event"), "completed.app1")
    async with outside_channel(login("consumer")) as consumer:
        assert (await take(consumer, NAMES.results)).body == b"event"


@pytest.mark.usefixtures("made")
async def test_an_operator_may_replay_submit_and_follow(wanted: BrokerOptions, login: Login) -> None:
    submission = Submission("m1", DownloadJob.model_validate_json(BODY))
    confirmed: list[Submission] = []
    async with outside_channel(wanted.url) as worker:
        await put(worker, NAMES.dead, BODY)
        await put(worker, NAMES.failed or "", FAILED)
        async with (
            open_connection(login("operator"), name="test", heartbeat=10, timeout=10, tls=None) as opened,
            follow(opened, NAMES, ["#"], declares=True, even_if_nobody_else=False, timeout=10) as outcomes,
        ):
            async with open_dead_letters(opened, NAMES, timeout=10) as letters:
                async for parked in letters.take(10):
                    await parked.replay()
            async with open_failed_jobs(opened, NAMES, timeout=10) as jobs:
                async for held in jobs.take(10):
                    await held.retry()
            await check_jobs_queue(opened, NAMES, timeout=10)
            await submit_all(opened, NAMES, [submission], timeout=10, on_confirmed=confirmed.append)
            results = await worker.get_exchange(NAMES.results)
            await results.publish(aio_pika.Message(b"event"), "failed.app1")
            assert await anext(outcomes) == b"event"
        # In any order: RabbitMQ 4.3 sorts by priority, and the replayed job has kept its own.
        queued = await worker.get_queue(NAMES.jobs)
        bodies = [(await queued.get()).body for _ in range(3)]
        assert {BODY, b"{}"} < set(bodies)
    assert confirmed == [submission]


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("name", documented())
async def test_no_login_may_read_what_is_not_for_it(wanted: BrokerOptions, login: Login, name: str) -> None:
    """Another application's queue, in the same virtual host."""
    async with outside_channel(wanted.url) as owner:
        await owner.declare_queue("other", durable=True)
    async with outside_channel(login(name)) as channel:
        other = await channel.get_queue("other", ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await other.get(fail=False)
