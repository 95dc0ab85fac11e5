"""Parked messages in an operator's hands: seen, replayed, discarded, and never lost."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel

from devkit.run.broker import Broker
from schemas import ErrorCode
from tests.amqp import put, take
from tests.broker.conftest import Connected
from tests.broker.test_session import delivered
from worker.broker import Names
from worker.broker.connection import open_connection
from worker.broker.dead_letters import DeadLetter, open_dead_letters
from worker.errors import BrokerError, JobError

GOOD = b'{"appId": "app1", "billFileName": "20260131_a.zip"}'


def connecting(broker: Broker) -> Any:
    return open_connection(broker.url, name="test", heartbeat=10, timeout=10, tls=None)


async def seen(broker: Broker, names: Names, limit: int = 1000) -> list[DeadLetter]:
    async with connecting(broker) as opened, open_dead_letters(opened, names, timeout=10) as dead:
        return [parked.letter async for parked in dead.take(limit)]


@pytest.mark.usefixtures("declared")
async def test_looking_takes_nothing(rabbitmq: Broker, names: Names, outside: AbstractChannel) -> None:
    for number in range(50):
        await put(outside, names.dead, b"%d" % number)

    first, second = await seen(rabbitmq, names), await seen(rabbitmq, names)

    # As letters, not by their bodies: what an operator saw is what a later command means.
    assert set(first) == set(second)
    assert len(first) == len(second) == 50


async def test_a_parked_message_says_what_the_worker_wrote(
    rabbitmq: Broker, names: Names, connected: Connected, outside: AbstractChannel
) -> None:
    await put(outside, names.jobs, b'{"appId": "app1"}', message_id="m1")
    delivery, job = await delivered(connected)
    before = datetime.now(UTC).replace(microsecond=0)
    await delivery.park(JobError(ErrorCode.INVALID_JOB, "no file name"), job)
    await delivery.ack()

    (letter,) = await seen(rabbitmq, names)

    assert (letter.reason, letter.detail) == ("INVALID_JOB", "no file name")
    assert (letter.job.job_id, letter.job.app_id, letter.body) == ("m1", "app1", b'{"appId": "app1"}')
    assert letter.since
    assert before <= letter.since <= datetime.now(UTC)


@pytest.mark.usefixtures("declared")
async def test_a_message_that_something_else_put_there_can_be_seen(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    await put(outside, names.dead, b"\xff\x00", headers={"x-dead-reason": 7, "x-death": "odd"})

    (letter,) = await seen(rabbitmq, names)

    assert (letter.reason, letter.since, letter.job.request) == ("7", None, None)


@pytest.mark.usefixtures("declared")
async def test_a_replayed_message_starts_over_as_a_job(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    headers: dict[str, Any] = {
        "x-attempt": 4,
        "x-dead-reason": "DELIVERY_LIMIT",
        "x-dead-detail": "…",
        "x-dead-since": datetime.now(UTC),
        "x-other": "kept",
    }
    await put(outside, names.dead, GOOD, message_id="m1", correlation_id="c1", headers=headers)

    async with connecting(rabbitmq) as opened, open_dead_letters(opened, names, timeout=10) as dead:
        async for parked in dead.take(10):
            await parked.replay()

    job = await take(outside, names.jobs)
    assert (job.body, job.message_id, job.correlation_id) == (GOOD, "m1", "c1")
    assert {name for name in job.headers if not name.startswith("x-delivery")} == {"x-other", "x-publish-id"}
    assert await seen(rabbitmq, names) == []


@pytest.mark.usefixtures("declared")
async def test_a_message_that_cannot_be_replayed_stays_parked(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    await put(outside, names.dead, GOOD)
    await outside.queue_delete(names.jobs)

    async with connecting(rabbitmq) as opened, open_dead_letters(opened, names, timeout=10) as dead:
        async for parked in dead.take(10):
            with pytest.raises(BrokerError, match="no queue takes"):
                await parked.replay()

    assert len(await seen(rabbitmq, names)) == 1


@pytest.mark.usefixtures("declared")
async def test_what_is_parked_again_meanwhile_is_not_taken_again(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    """A job that fails immediately would else be replayed for ever."""
    for number in range(20):
        await put(outside, names.dead, b"%d" % number)

    taken = 0
    async with connecting(rabbitmq) as opened, open_dead_letters(opened, names, timeout=10) as dead:
        async for parked in dead.take(1000):
            taken += 1
            await parked.discard()
            await put(outside, names.dead, parked.letter.body)

    assert taken == 20
    assert len(await seen(rabbitmq, names)) == 20


@pytest.mark.usefixtures("declared")
async def test_stopping_early_gives_everything_back(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    for number in range(30):
        await put(outside, names.dead, b"%d" % number)

    async with (
        connecting(rabbitmq) as opened,
        open_dead_letters(opened, names, timeout=10) as dead,
        aclosing(dead.take(1000)) as letters,
    ):
        async for _ in letters:
            break

    assert len(await seen(rabbitmq, names)) == 30


@pytest.mark.usefixtures("declared")
async def test_no_more_are_taken_than_the_limit(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    for number in range(30):
        await put(outside, names.dead, b"%d" % number)

    assert len(await seen(rabbitmq, names, limit=12)) == 12


@pytest.mark.usefixtures("declared")
async def test_a_second_operator_is_told_of_the_first(rabbitmq: Broker, names: Names) -> None:
    async with connecting(rabbitmq) as first, open_dead_letters(first, names, timeout=10):
        with pytest.raises(BrokerError, match="another operator is looking into"):
            await seen(rabbitmq, names)

    assert await seen(rabbitmq, names) == []


async def test_a_missing_queue_is_named(rabbitmq: Broker, names: Names) -> None:
    with pytest.raises(BrokerError, match=f"queue {names.dead} does not exist"):
        await seen(rabbitmq, names)


@pytest.mark.usefixtures("declared")
async def test_a_killed_connection_loses_nothing(
    rabbitmq: Broker, names: Names, outside: AbstractChannel
) -> None:
    for number in range(10):
        await put(outside, names.dead, b"%d" % number)

    async with connecting(rabbitmq) as opened, open_dead_letters(opened, names, timeout=10) as dead:
        held = [parked async for parked in dead.take(10)]
        await opened.close()
        with pytest.raises(BrokerError):
            await held[0].discard()

    async with asyncio.timeout(30):
        while len(await seen(rabbitmq, names)) < 10:
            pass
