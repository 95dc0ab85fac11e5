"""Whatever properties RabbitMQ takes, a message is a message like any other, and so are its copies."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from aio_pika.abc import AbstractChannel

from devkit.run.broker import Broker
from devkit.run.rabbitmq import PrivateRabbitMQ
from schemas import DownloadCompleted, DownloadFailed, ErrorCode
from tests.broker.conftest import Connected, Inbox
from tests.broker.test_session import outcome_of
from tests.installation import APP, Site, bill
from tests.raw_amqp import connecting, field, nested, put_raw, table, take_raw, text
from tests.shapes import SHAPES
from worker.broker import AmqpDelivery, BrokerOptions, Names, frames, open_session, tables
from worker.broker.dead_letters import DeadLetter, open_dead_letters
from worker.broker.follow import follow
from worker.broker.messages import read_envelope
from worker.broker.properties import (
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    TIMESTAMP,
    USER_ID,
    Properties,
    written,
)
from worker.core.job import Hold, read_job
from worker.core.retry import Retry
from worker.errors import JobError

GOOD = b'{"appId": "app1", "billFileName": "20260131_a.zip"}'
HOLD = Hold(datetime(2026, 1, 31, tzinfo=UTC), None)
ERROR = JobError(ErrorCode.INVALID_JOB, "no")
NOT_THEIRS = {
    b"x-attempt",
    b"x-held-since",
    b"x-refused-since",
    b"x-publish-id",
    b"x-published-by",
    b"x-dead-reason",
    b"x-dead-detail",
    b"x-dead-since",
    b"x-dead-body-bytes",
    b"x-dead-body-sha256",
    b"x-death",
    b"x-first-death-exchange",
    b"x-first-death-queue",
    b"x-first-death-reason",
    b"x-last-death-exchange",
    b"x-last-death-queue",
    b"x-last-death-reason",
    b"x-delivery-count",
    b"x-acquired-count",
    b"CC",
    b"BCC",
}


def theirs(properties: Properties, *, but: int = 0) -> tuple[dict[int, bytes], list[bytes]]:
    """What the publisher wrote: properties that copies keep, but for one, and the headers one by one."""
    values = properties.values()
    headers = values.pop(HEADERS, table())
    for flag in (DELIVERY_MODE, EXPIRATION, USER_ID, but):
        values.pop(flag, None)
    found = tables.fields(headers, 4, len(headers))
    return values, [headers[one.start : one.end] for one in found if one.name not in NOT_THEIRS]


def assert_a_copy(copy: Properties, original: Properties, *, but: int = 0) -> None:
    """A copy has the publisher's bytes, or says why not all of them."""
    values, headers = theirs(copy, but=but)
    expected, originals = theirs(original, but=but)
    assert values == expected
    assert copy.values()[DELIVERY_MODE] == b"\2"
    if copy.header("x-headers-dropped"):
        assert len(original.raw) > 130_000 or original.defect
    else:
        assert headers == originals
    # RabbitMQ takes a `user_id` only from the login of that name.
    user = original.short(USER_ID)
    assert user is None or copy.header("x-published-by") == user


@dataclass
class Round:
    """Where a job may go at this broker."""

    url: str
    names: Names
    inbox: Inbox

    async def waits(self, raw: bytes) -> bool:
        """Its retry lies in its tier; False if RabbitMQ refuses the job itself."""
        if not await put_raw(self.url, self.names.jobs, raw, GOOD):
            return False
        delivery = await self.inbox.jobs.get()
        await delivery.retry(Retry(60.0, 2))
        await delivery.hold(HOLD, 60, read_job(delivery.envelope))
        await delivery.ack()
        copy = await take_raw(self.url, self.names.tier(60.0))
        assert copy.body == GOOD
        assert copy.properties.header("x-attempt") == 2
        assert_a_copy(copy.properties, await self.as_rabbitmq_has(raw))
        held = await take_raw(self.url, self.names.held)
        assert held.body == GOOD
        assert_a_copy(held.properties, await self.as_rabbitmq_has(raw))
        return True

    async def comes_back(self, raw: bytes) -> None:
        """It passes through a tier and is the same job still."""
        await put_raw(self.url, self.names.jobs, raw, GOOD)
        first = await self.inbox.jobs.get()
        await first.retry(Retry(0.05, 2))
        await first.ack()
        second = await self.inbox.jobs.get()
        assert read_job(second.envelope).attempt == 2
        assert read_job(second.envelope).job_id == read_job(first.envelope).job_id
        await second.publish(outcome_of(read_job(second.envelope)), read_job(second.envelope))
        await second.ack()

    async def is_parked(self, raw: bytes) -> None:
        """Its parked copy can be seen, and becomes a job again."""
        await put_raw(self.url, self.names.jobs, raw, GOOD)
        delivery = await self.inbox.jobs.get()
        job = read_job(delivery.envelope)
        await delivery.park(ERROR, job)
        await delivery.ack()
        letter = await self.replayed()
        assert (letter.reason, letter.job.job_id) == ("INVALID_JOB", job.job_id)
        again = await self.inbox.jobs.get()
        assert read_job(again.envelope).job_id == job.job_id
        assert read_job(again.envelope).attempt == 1
        await again.ack()

    async def replayed(self) -> DeadLetter:
        async with (
            connecting(self.url) as opened,
            open_dead_letters(opened, self.names, timeout=30) as dead,
            aclosing(dead.take(10)) as letters,
        ):
            async for parked in letters:
                await parked.replay()
                return parked.letter
        raise AssertionError("nothing is parked")

    async def as_rabbitmq_has(self, raw: bytes) -> Properties:
        """What RabbitMQ makes of properties: 4.x writes some of them anew."""
        await put_raw(self.url, self.names.dead, raw, GOOD)
        return (await take_raw(self.url, self.names.dead)).properties


@pytest.mark.parametrize("shape", SHAPES)
async def test_copies_of_a_job_carry_its_publishers_bytes(
    shape: str, rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    """Through a tier and back, parked and replayed; what RabbitMQ itself refuses is no job."""
    at = Round(rabbitmq.url, names, connected.inbox)

    if await at.waits(SHAPES[shape]):
        await at.comes_back(SHAPES[shape])
        await at.is_parked(SHAPES[shape])

    assert not connected.session.is_lost
    assert connected.inbox.jobs.empty()


async def test_every_shape_has_one_outcome_and_costs_nobody_else_one(site: Site) -> None:
    """Even those that the broker gives up on: a consumer of the dropped ones starts with each session."""
    taken = {}
    for number, (shape, raw) in enumerate(SHAPES.items()):
        if await put_raw(site.own_url, site.names.jobs, raw, site.body(bill(number))):
            taken[bill(number)] = shape
    dropped = site.body(bill(99))
    await put_raw(site.own_url, site.names.dropped, SHAPES["tables 3,000 deep"], dropped)
    plain = await site.publish(bill(100))

    with site.worker():
        await site.until(lambda: len(site.ledger.outcomes) == len(taken) + 2)
        await site.publish(bill(101))
        await site.until(lambda: f"{APP}/{bill(101)}" in site.ledger.outcomes)

    events = {event.bill_file_name: event for events in site.ledger.outcomes.values() for event in events}
    assert sum(map(len, site.ledger.outcomes.values())) == len(taken) + 3
    for file, shape in taken.items():
        if "00 deep" in shape:
            event = events[file]
            assert isinstance(event, DownloadFailed), shape
            assert event.error_code is ErrorCode.INVALID_JOB
            assert "nested more than 64 deep" in event.error_message
        else:
            assert isinstance(events[file], DownloadCompleted), shape
    assert isinstance(site.ledger.outcomes[plain[0]][0], DownloadCompleted)
    buried = events[bill(99)]
    assert isinstance(buried, DownloadFailed)
    assert buried.error_code is ErrorCode.DELIVERY_LIMIT
    deep = [shape for shape in taken.values() if "00 deep" in shape]
    assert await site.queue_length(site.names.dead) == len(deep) + 1


async def test_a_job_nested_too_deep_is_parked_as_the_bytes_that_came(site: Site) -> None:
    raw = written({HEADERS: table(field(b"x-deep", nested(3000)), field(b"x-other", text(b"kept")))})
    await put_raw(site.own_url, site.names.jobs, raw, site.body(bill(1)))

    with site.worker():
        await site.until(lambda: f"{APP}/{bill(1)}" in site.ledger.outcomes)

    parked = await take_raw(site.own_url, site.names.dead)
    assert parked.body == site.body(bill(1))
    assert theirs(parked.properties) == theirs(Properties(raw))
    assert parked.properties.header("x-dead-reason") == "INVALID_JOB"
    assert parked.properties.header("x-other") == "kept"


async def test_headers_that_leave_no_room_for_ours_are_left_out(
    rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    await put_raw(rabbitmq.url, names.jobs, SHAPES["a whole frame"], GOOD)
    delivery = await connected.inbox.jobs.get()

    await delivery.retry(Retry(60.0, 3))
    await delivery.ack()

    copy = (await take_raw(rabbitmq.url, names.tier(60.0))).properties
    assert "does not fit into a frame" in copy.header("x-headers-dropped")
    assert set(copy.headers()) == {"x-headers-dropped", "x-attempt", "x-publish-id"}


async def test_of_a_long_tracestate_an_event_carries_whole_members(
    rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    await put_raw(rabbitmq.url, names.jobs, SHAPES["a tracestate of a frame"], GOOD)
    delivery = await connected.inbox.jobs.get()
    job = read_job(delivery.envelope)

    await delivery.publish(outcome_of(job), job)
    await delivery.ack()

    assert names.results_queue
    event = await take_raw(rabbitmq.url, names.results_queue)
    assert event.properties.header("tracestate") == ",".join(["k=v"] * 128)


@pytest.mark.parametrize("priority", [None, 0, 3])
async def test_a_priority_stays_what_it_was(
    priority: int | None, rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    """Absent is not 0: RabbitMQ 4.3 takes it for 4."""
    raw = b"\0\0" if priority is None else written({PRIORITY: bytes((priority,))})
    await put_raw(rabbitmq.url, names.jobs, raw, GOOD)
    delivery = await connected.inbox.jobs.get()

    await delivery.retry(Retry(60.0, 2))
    await delivery.ack()

    copy = await take_raw(rabbitmq.url, names.tier(60.0))
    assert copy.properties.values().get(PRIORITY) == (None if priority is None else bytes((priority,)))


async def test_a_retry_is_not_behind_what_was_published_after_it(
    rabbitmq: Broker, connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """RabbitMQ 4.3 gives out all of a higher priority first, and a steady backlog never ends."""
    await put_raw(rabbitmq.url, names.jobs, written({MESSAGE_ID: b"\x05first"}), GOOD)
    first = await connected.inbox.jobs.get()
    await connected.session.pause()
    await first.retry(Retry(0.05, 2))
    await first.ack()
    while not await length(outside, names.jobs):
        pass
    for _ in range(30):
        await put_raw(rabbitmq.url, names.jobs, written({MESSAGE_ID: b"\x05later"}), GOOD)

    await connected.session.consume()

    assert read_job((await connected.inbox.jobs.get()).envelope).job_id == "first"


async def length(channel: AbstractChannel, queue: str) -> int:
    """How many messages are ready in a queue."""
    return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0


async def test_a_job_whose_time_ran_out_says_so(rabbitmq: Broker, connected: Connected, names: Names) -> None:
    await connected.session.pause()
    await put_raw(rabbitmq.url, names.jobs, written({EXPIRATION: b"\x011"}), GOOD)

    dropped = await connected.inbox.dropped.get()

    assert dropped.envelope.death == "expired"
    await dropped.ack()


async def test_what_workers_died_of_says_so(rabbitmq: Broker, connected: Connected, names: Names) -> None:
    """Also when the job has waited in a tier before, whose end RabbitMQ records as expired."""
    await put_raw(rabbitmq.url, names.jobs, b"\0\0", GOOD)
    first = await connected.inbox.jobs.get()
    await first.retry(Retry(0.05, 2))
    await first.ack()

    dropped = await connected.inbox.dropped_after(AmqpDelivery.reject)

    assert dropped.envelope.death == "delivery_limit"
    await dropped.ack()


async def test_a_replay_changes_no_property_but_the_timestamp(
    rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    raw = SHAPES["every property"]
    await connected.session.pause()
    await put_raw(rabbitmq.url, names.dead, raw, GOOD)

    await Round(rabbitmq.url, names, connected.inbox).replayed()

    copy = (await take_raw(rabbitmq.url, names.jobs)).properties
    assert_a_copy(copy, Properties(raw), but=TIMESTAMP)
    assert copy.values()[TIMESTAMP] != Properties(raw).values()[TIMESTAMP]


@pytest.mark.usefixtures("declared")
async def test_followed_events_may_have_any_properties(rabbitmq: Broker, names: Names) -> None:
    """Somebody else may publish to the exchange, too."""
    async with (
        connecting(rabbitmq.url) as opened,
        follow(opened, names, ["#"], declares=True, even_if_nobody_else=False, timeout=10) as bodies,
    ):
        for raw in (SHAPES["tables 3,000 deep"], SHAPES["a timestamp beyond all time"]):
            await put_raw(rabbitmq.url, "failed.app1", raw, b"{}", exchange=names.results)
            assert await anext(bodies) == b"{}"


@pytest.fixture
async def is_3(rabbitmq: Broker) -> bool:
    """Whether the broker is older than 4.0."""
    async with connecting(rabbitmq.url) as opened:
        assert opened.transport
        return str(opened.transport.connection.server_properties["version"]).startswith("3.")


async def test_each_shape_that_the_broker_gives_up_on_comes_to_us(
    rabbitmq: Broker, connected: Connected, names: Names, *, is_3: bool
) -> None:
    """Each after the others: none stops the dead-lettering of the queue, but for one before 4.0."""
    for shape, raw in SHAPES.items():
        if is_3 and shape == "x-death of numbers":
            continue
        if await put_raw(rabbitmq.url, names.jobs, raw, GOOD):
            dropped = await connected.inbox.dropped_after(AmqpDelivery.reject)
            assert dropped.envelope.body == GOOD, shape
            await dropped.ack()

    assert not connected.session.is_lost


def forged_deaths(queue: str) -> dict[str, bytes]:
    """Lists `x-death` that a publisher may send and RabbitMQ would not write."""
    here = field(b"queue", text(queue.encode())), field(b"reason", text(b"delivery_limit"))
    lists = {
        "of numbers": (b"b\1", b"b\2"),
        "of a table and a number": (b"F" + table(*here, field(b"count", b"l" + b"\0" * 8)), b"b\1"),
        "of one queue twice": (b"F" + table(*here),) * 2,
        "with a count that is text": (b"F" + table(*here, field(b"count", text(b"many"))),),
    }
    return {
        shape: written({HEADERS: table(field(b"x-death", b"A" + table(*entries)))})
        for shape, entries in lists.items()
    }


async def test_a_job_sent_around_has_lost_its_forged_x_death(
    rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    """So that RabbitMQ before 4.0, too, can give up on it, and on those after it."""
    for shape, raw in forged_deaths(names.jobs).items():
        await put_raw(rabbitmq.url, names.jobs, raw, GOOD)
        delivery = await connected.inbox.jobs.get()
        assert delivery.envelope.has_forged_death, shape
        await delivery.retry(Retry(0.05, 1, early=0))
        await delivery.ack()

        async with asyncio.timeout(60):
            dropped = await connected.inbox.dropped_after(AmqpDelivery.reject)

        assert not dropped.envelope.has_forged_death, shape
        assert read_job(dropped.envelope).attempt == 1
        await dropped.ack()


@pytest.mark.parametrize("shape", ["x-death that is text", "x-death of empty tables", "every property"])
def test_other_headers_are_no_forged_x_death(shape: str) -> None:
    assert not read_envelope(frames.Message(GOOD, Properties(SHAPES[shape]))).has_forged_death


# Large bodies.


@pytest.fixture
def largest(*, is_3: bool) -> int:
    """Mebibytes that a message may have; RabbitMQ 4 takes 16."""
    return 120 if is_3 else 15


async def test_a_huge_message_costs_little_memory(site: Site, largest: int) -> None:
    """The chart's limit is 512 MiB. Sixteen of a size are in hand at the same time."""
    body = b"x" * (largest << 20)
    with site.worker(CONCURRENCY="16") as worker:
        await site.publish(bill(1))
        await site.settled()
        before = worker.peak_memory()
        await put_raw(site.own_url, site.names.jobs, b"\0\0", body)
        for _ in range(16):
            await put_raw(site.own_url, site.names.jobs, b"\0\0", body[: 15 << 20])
        await site.until(lambda: sum(map(len, site.ledger.outcomes.values())) == 18)
        peak = worker.peak_memory()

    assert peak - before < 64 << 20
    failed = [event for events in site.ledger.outcomes.values() for event in events[:1]][1:]
    assert {event.error_code for event in failed if isinstance(event, DownloadFailed)} == {
        ErrorCode.INVALID_JOB
    }
    assert f"the body has {len(body)} bytes" in str(failed)


async def test_of_a_large_body_the_beginning_is_parked(
    rabbitmq: Broker, connected: Connected, names: Names
) -> None:
    body = bytes(range(256)) * 4096
    await put_raw(rabbitmq.url, names.jobs, b"\0\0", body)
    delivery = await connected.inbox.jobs.get()
    job = read_job(delivery.envelope)

    await delivery.park(ERROR, job)
    await delivery.ack()

    parked = await take_raw(rabbitmq.url, names.dead)
    assert parked.body == body[: 64 * 1024]
    assert parked.properties.header("x-dead-body-bytes") == len(body)
    assert parked.properties.header("x-dead-body-sha256") == job.job_id


@pytest.fixture
def unbounded() -> Iterator[PrivateRabbitMQ]:
    """A node that sets no bound to frames."""
    if "AMQP" in os.environ:
        pytest.skip("needs a node of our own with another frame_max")
    with PrivateRabbitMQ(conf=["frame_max = 0"]) as node:
        yield node


@pytest.mark.broker
async def test_without_a_bound_on_frames_all_goes_on(
    unbounded: PrivateRabbitMQ, options: BrokerOptions, names: Names
) -> None:
    url, inbox = unbounded.url, Inbox()
    async with open_session(
        replace(options, url=url), on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait
    ) as session:
        await session.consume()
        at = Round(url, names, inbox)
        assert await at.waits(SHAPES["a whole frame"])
        await at.is_parked(SHAPES["every type"])
        await put_raw(url, names.jobs, b"\0\0", b"x" * (5 << 20))
        delivery = await inbox.jobs.get()
        assert "has 5242880 bytes" in read_job(delivery.envelope).defect
        await delivery.ack()
        assert not session.is_lost
