"""Sessions: what is delivered, settled, published, and how a lost one shows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from aio_pika.abc import AbstractChannel
from structlog.testing import capture_logs

from devkit.run.broker import Broker
from schemas import DownloadFailed, ErrorCode, read_outcome
from tests.amqp import put, take
from tests.broker.breaking import Breaks, Leaderless, open_breaker, open_leaderless
from tests.broker.conftest import Connect, Connected, Inbox, completing
from worker.broker import AmqpDelivery, BrokerOptions, Names, Session, Topology, open_session, topology
from worker.core.context import SPAN
from worker.core.job import Hold, Job, read_job
from worker.core.outcome import Execution, failed
from worker.core.retry import Retry
from worker.core.trace import NoTracer
from worker.errors import BrokerError, JobError, NotConfirmedError, SessionLostError

T = TypeVar("T")

BODY = b'{"appId": "app1", "billFileName": "20260131_a.zip"}'
NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ERROR = JobError(ErrorCode.FILE_NOT_FOUND, "not there", result_code="0300011", http_status=200)


def outcome_of(job: Job) -> DownloadFailed:
    return failed(job, ERROR, Execution(started_at=NOW, finished_at=NOW, worker="w"))


async def delivered(connected: Connected) -> tuple[AmqpDelivery, Job]:
    delivery = await connected.inbox.jobs.get()
    return delivery, read_job(delivery.envelope)


async def test_a_delivery_carries_what_the_contract_reads(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    headers: dict[str, Any] = {"traceparent": TRACE, "x-attempt": 2, "x-other": "unread"}
    await put(outside, names.jobs, BODY, message_id="m1", correlation_id="c1", headers=headers)

    delivery, job = await delivered(connected)

    assert (job.job_id, job.correlation_id, job.attempt, job.traceparent) == ("m1", "c1", 2, TRACE)
    assert delivery.envelope.body == BODY
    assert not delivery.redelivered
    await delivery.ack()


async def test_no_more_jobs_come_than_the_prefetch_allows(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    for _ in range(6):
        await put(outside, names.jobs, BODY)

    held = [await connected.inbox.jobs.get() for _ in range(4)]
    await held[0].ack()
    await connected.inbox.jobs.get()

    assert connected.inbox.jobs.empty()


async def test_an_outcome_is_published_as_the_contract_says(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, BODY, message_id="m1", headers={"traceparent": TRACE, "tracestate": "a=b"})
    delivery, job = await delivered(connected)
    SPAN.set(NoTracer().begin(job))

    await delivery.publish(outcome_of(job), job)
    await delivery.ack()

    assert names.results_queue
    event = await take(outside, names.results_queue)
    assert event.routing_key == "failed.app1"
    assert (event.content_type, event.type, event.app_id) == (
        "application/json",
        "download.failed",
        "ccfs-worker",
    )
    assert event.correlation_id == "m1"
    assert event.message_id not in {None, "m1"}
    assert event.delivery_mode == 2
    assert event.timestamp is not None
    assert str(event.headers["traceparent"]).startswith(TRACE[:36])
    assert event.headers["tracestate"] == "a=b"
    assert read_outcome(event.body) == outcome_of(job)


async def test_an_outcome_that_no_queue_takes_is_not_confirmed(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, BODY)
    delivery, job = await delivered(connected)
    assert names.results_queue
    await outside.queue_delete(names.results_queue)

    with pytest.raises(NotConfirmedError, match="no queue takes") as caught:
        await delivery.publish(outcome_of(job), job)

    assert caught.value.unroutable


async def test_many_concurrent_outcomes_are_each_confirmed(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """The broker confirms several with one frame."""
    await put(outside, names.jobs, BODY)
    delivery, job = await delivered(connected)

    await asyncio.gather(*(delivery.publish(outcome_of(job), job) for _ in range(200)))

    assert names.results_queue
    queue = await outside.get_queue(names.results_queue)
    async with queue.iterator(no_ack=True) as events:
        ids = {(await anext(events)).message_id for _ in range(200)}
    assert len(ids) == 200
    await delivery.ack()


async def test_a_publish_that_waits_ends_with_its_connection(
    rabbitmq: Broker, connected: Connected, outside: AbstractChannel, names: Names, options: BrokerOptions
) -> None:
    if rabbitmq.node is None:
        pytest.skip("needs a broker whose connections we may close")
    await put(outside, names.jobs, BODY)
    delivery, job = await delivered(connected)
    # An alarm: nothing that is published is read.
    await asyncio.to_thread(rabbitmq.node.rabbitmqctl, "set_vm_memory_high_watermark", "0.000001")
    try:
        while not await alarms(rabbitmq):
            pass
        publishing = asyncio.create_task(delivery.publish(outcome_of(job), job))
        await close_connection(rabbitmq, f"ccfs-worker {options.host} publisher")

        with pytest.raises(SessionLostError, match="broke while publishing"):
            await publishing
    finally:
        await asyncio.to_thread(rabbitmq.node.rabbitmqctl, "set_vm_memory_high_watermark", "0.4")


async def test_a_retry_comes_back_with_its_attempt_counted(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """Identity, trace and foreign headers stay; what the broker wrote about the first life does not."""
    headers: dict[str, Any] = {"x-other": "kept", "traceparent": TRACE}
    await put(outside, names.jobs, BODY, message_id="m1", headers=headers, priority=1)
    first, _ = await delivered(connected)

    await first.retry(Retry(0.05, 2))
    await first.ack()
    second, again = await delivered(connected)

    assert (again.job_id, again.attempt, again.traceparent) == ("m1", 2, TRACE)
    assert second.envelope.body == BODY
    await second.retry(Retry(60.0, 3))
    await second.ack()
    waiting = await take(outside, names.tier(60.0))
    assert waiting.headers["x-other"] == "kept"
    assert "x-death" not in waiting.headers


async def test_a_held_job_comes_back_with_its_hold_and_keeps_it(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """Its attempt is not counted; a retry that comes after the hold carries it, too."""
    await put(outside, names.jobs, BODY, message_id="m1", headers={"x-other": "kept"})
    first, job = await delivered(connected)
    hold = Hold(NOW, NOW + timedelta(seconds=1.5))

    await first.hold(hold, 0.05, job)
    await first.ack()
    second, held = await delivered(connected)
    assert (held.job_id, held.attempt, held.hold) == ("m1", 1, hold)
    await second.retry(Retry(0.05, 2))
    await second.ack()
    third, tried = await delivered(connected)
    assert (tried.attempt, tried.hold) == (2, hold)
    await third.hold(hold, 60, tried)
    await third.ack()

    waiting = await take(outside, names.held)
    assert waiting.body == BODY
    assert waiting.headers["x-other"] == "kept"
    assert waiting.headers["x-attempt"] == 2


async def test_a_parked_copy_says_why(connected: Connected, outside: AbstractChannel, names: Names) -> None:
    await put(outside, names.jobs, b"nonsense")
    delivery, job = await delivered(connected)

    await delivery.park(JobError(ErrorCode.INVALID_JOB, "not JSON"), job)
    await delivery.ack()

    parked = await take(outside, names.dead)
    assert parked.body == b"nonsense"
    assert (parked.headers["x-dead-reason"], parked.headers["x-dead-detail"]) == ("INVALID_JOB", "not JSON")


async def test_what_is_given_back_comes_again(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, BODY)
    first, _ = await delivered(connected)

    await first.give_back()

    second, _ = await delivered(connected)
    assert second.redelivered
    await second.ack()


async def test_a_message_rejected_too_often_is_dropped_to_us(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """The broker gives up after its delivery limit (3 here), and the worker hears of it."""
    await put(outside, names.jobs, BODY, message_id="m1")

    dropped = await connected.inbox.dropped_after(AmqpDelivery.reject)

    assert read_job(dropped.envelope).job_id == "m1"
    await dropped.ack()


async def test_two_copies_with_the_same_id_are_each_confirmed(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """Publishers may repeat a message_id, so that it says nothing about which copy came back."""
    for _ in range(4):
        await put(outside, names.jobs, BODY, message_id="same")
    deliveries = [await delivered(connected) for _ in range(4)]

    await asyncio.gather(*(delivery.retry(Retry(0.05, 2)) for delivery, _ in deliveries))
    for delivery, _ in deliveries:
        await delivery.ack()

    again = [await delivered(connected) for _ in range(4)]
    assert [job.attempt for _, job in again] == [2, 2, 2, 2]


async def test_pausing_takes_no_more_and_keeps_what_came(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    await put(outside, names.jobs, b"first")
    held = await connected.inbox.jobs.get()

    await connected.session.pause()
    await put(outside, names.jobs, b"second")
    assert (await take(outside, names.jobs)).body == b"second"
    await held.ack()
    await put(outside, names.jobs, b"third")
    await connected.session.consume()

    assert (await connected.inbox.jobs.get()).envelope.body == b"third"


@pytest.mark.parametrize("settle", ["ack", "give_back", "reject"])
async def test_a_job_of_a_deleted_queue_has_its_outcome(
    connected: Connected, outside: AbstractChannel, names: Names, settle: str
) -> None:
    """The queue is declared again; what was in hand is published, and settling it harms nothing."""
    await put(outside, names.jobs, BODY, message_id="old")
    orphan, job = await delivered(connected)

    async with completing(connected.session):
        await outside.queue_delete(names.jobs)
    await orphan.publish(outcome_of(job), job)
    await getattr(orphan, settle)()
    await put(outside, names.jobs, BODY, message_id="new")
    await put(outside, names.jobs, BODY, message_id="newer")

    assert names.results_queue
    assert read_outcome((await take(outside, names.results_queue)).body).job_id == "old"
    for expected in ("new", "newer"):
        delivery, fresh = await delivered(connected)
        assert (fresh.job_id, delivery.redelivered) == (expected, False)
        await delivery.ack()
    assert not connected.session.is_lost


async def test_the_next_session_publishes_what_an_orphan_became(
    connect: Connect, outside: AbstractChannel, names: Names
) -> None:
    """The job queue is deleted under a job in hand, and then the session is lost."""
    async with connect() as first:
        await put(outside, names.jobs, BODY, message_id="old")
        orphan, job = await delivered(first)
        async with completing(first.session):
            await outside.queue_delete(names.jobs)
        assert orphan.orphaned
    assert orphan.alive
    publishing = asyncio.create_task(orphan.publish(outcome_of(job), job))

    async with connect(), asyncio.timeout(60):
        await publishing
        await orphan.ack()

    assert names.results_queue
    assert read_outcome((await take(outside, names.results_queue)).body).job_id == "old"


async def test_a_job_of_a_queue_that_is_there_is_no_orphan(
    connect: Connect, outside: AbstractChannel, names: Names
) -> None:
    async with connect() as first:
        await put(outside, names.jobs, BODY)
        delivery, job = await delivered(first)

    assert (delivery.alive, delivery.orphaned) == (False, False)
    with pytest.raises(SessionLostError):
        await delivery.publish(outcome_of(job), job)


async def test_a_queue_deleted_again_and_again_is_declared_each_time(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    for queue in (names.jobs, names.dropped, names.jobs):
        async with completing(connected.session):
            await outside.queue_delete(queue)

    await put(outside, names.jobs, BODY)
    delivery, _ = await delivered(connected)
    await delivery.ack()
    assert not connected.session.is_lost


async def test_consuming_waits_for_a_queue_that_is_gone(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """While intake is paused the broker does not say that the queue was deleted."""
    await put(outside, names.jobs, BODY)
    held, _ = await delivered(connected)
    await connected.session.pause()
    await outside.queue_delete(names.jobs)

    async with completing(connected.session):
        await connected.session.consume()

    assert (held.alive, held.orphaned) == (True, True)


async def test_what_no_queue_takes_is_declared_again(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """A tier, the queue of dead letters and the queue of results, deleted by somebody."""
    await put(outside, names.jobs, BODY)
    delivery, job = await delivered(connected)
    assert names.results_queue
    for queue in (names.results_queue, names.dead, names.tier(60.0)):
        await outside.queue_delete(queue)
    sends = (
        lambda: delivery.publish(outcome_of(job), job),
        lambda: delivery.park(ERROR, job),
        lambda: delivery.retry(Retry(60.0, 2)),
    )

    async with asyncio.timeout(60):
        for send in sends:
            await insist(send)

    for queue in (names.results_queue, names.dead, names.tier(60.0)):
        assert (await outside.declare_queue(queue, passive=True)).declaration_result.message_count == 1
    await delivery.ack()
    assert not connected.session.is_lost


async def insist(send: Callable[[], Awaitable[None]]) -> None:
    """Publish again until a queue takes it, as intake does."""
    while True:
        try:
            return await send()
        except NotConfirmedError as exc:
            assert exc.unroutable  # noqa: PT017 - the error is what is looked at
            await asyncio.sleep(0.05)


async def test_a_check_that_is_cancelled_loses_nothing(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """A closing gate and SIGTERM cancel it, wherever it stands."""
    await put(outside, names.jobs, BODY)
    held, _ = await delivered(connected)
    for turns in range(40):
        checking = asyncio.create_task(connected.session.check())
        for _ in range(turns):
            await asyncio.sleep(0)
        checking.cancel()
        await asyncio.wait([checking])
    for turns in range(20):
        for step in (connected.session.pause, connected.session.consume):
            stepping = asyncio.create_task(step())
            for _ in range(turns):
                await asyncio.sleep(0)
            stepping.cancel()
            await asyncio.wait([stepping])

    await connected.session.pause()
    await connected.session.consume()
    assert (held.alive, connected.session.is_lost) == (True, False)


async def cancel_behind_its_back(connected: Connected) -> None:
    """The broker forgets the session's consumer, and the session is not told."""
    consumer = connected.session._jobs  # noqa: SLF001 - nobody outside has the tag
    assert consumer.tag
    assert consumer._origin  # noqa: SLF001
    await consumer._origin.lane.channel.basic_cancel(consumer.tag)  # noqa: SLF001


async def test_a_healthy_session_passes_its_check(
    connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """Jobs that wait because all our places are taken, or come steadily, are no sign of anything."""
    for _ in range(5):
        await put(outside, names.jobs, BODY)
        await connected.session.check()
    for _ in range(3):
        await connected.session.check()
    assert not connected.session.is_lost


async def test_a_check_notices_a_queue_without_consumers(connected: Connected) -> None:
    await cancel_behind_its_back(connected)

    for _ in range(2):
        await connected.session.check()
        assert not connected.session.is_lost
    await connected.session.check()

    assert "counts no consumer of" in await connected.session.lost()


@pytest.fixture
async def leaderless(
    options: BrokerOptions,
    names: Names,
    outside: AbstractChannel,  # noqa: ARG001
) -> AsyncIterator[tuple[Leaderless, Connected]]:
    """A session by way of a fake: the single node of a test cannot lose a leader."""
    async with open_leaderless(options.url, names.jobs) as line:
        inbox = Inbox()
        async with open_session(
            replace(options, url=line.url), on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait
        ) as session:
            await session.consume()
            yield line, Connected(session, inbox)


async def test_slow_zeros_cost_no_session(
    leaderless: tuple[Leaderless, Connected], names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ says that a queue has no consumer when its leader does not answer in time."""
    line, connected = leaderless
    monkeypatch.setattr(topology, "_LEADER_WAIT", 0.0)
    line.is_out = True

    with capture_logs() as lines:
        for _ in range(5):
            await connected.session.check()
        states = await connected.session.queues()

    assert not connected.session.is_lost
    assert "its leader does not answer" in states[names.jobs].unknown
    assert [line["event"] for line in lines] == ["broker.queue_unknown"] * 5


async def test_a_queue_without_a_leader_is_named(
    options: BrokerOptions,
    names: Names,
    outside: AbstractChannel,  # noqa: ARG001
) -> None:
    """RabbitMQ closes the connection that consumes from it."""
    inbox = Inbox()
    async with open_leaderless(options.url, names.jobs) as line:
        line.refuses = True
        async with open_session(
            replace(options, url=line.url), on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait
        ) as session:
            with pytest.raises(BrokerError) as caught:
                await session.consume()

    named = f"for the queue {names.dropped}: a majority of its members must run"
    assert named in str(caught.value)
    assert f"quorum_status {names.dropped}" in str(caught.value)


async def test_zeros_that_deliveries_contradict_cost_no_session(
    leaderless: tuple[Leaderless, Connected],
    outside: AbstractChannel,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line, connected = leaderless
    monkeypatch.setattr(topology, "_LEADER_WAIT", 3600.0)
    line.is_out = True

    for _ in range(5):
        await put(outside, names.jobs, BODY)
        await (await connected.inbox.jobs.get()).ack()
        await connected.session.check()
    unknown = (await connected.session.queues())[names.jobs].unknown
    line.is_out = False

    assert not connected.session.is_lost
    assert "no consumer although we consume" in unknown
    assert (await connected.session.queues())[names.jobs] == (0, 1, "")


async def test_a_check_notices_jobs_that_do_not_come(
    connect: Connect, connected: Connected, outside: AbstractChannel, names: Names
) -> None:
    """Another worker's consumer is there, but ours gets nothing of what stands in the queue."""
    async with connect() as other:
        await cancel_behind_its_back(connected)
        for _ in range(6):
            await put(outside, names.jobs, BODY)
        for _ in range(4):
            await other.inbox.jobs.get()

        await connected.session.check()
        assert not connected.session.is_lost
        await connected.session.check()
        assert connected.session.is_lost


async def test_a_closed_connection_ends_the_session_and_its_deliveries(
    rabbitmq: Broker, connect: Connect, outside: AbstractChannel, names: Names, options: BrokerOptions
) -> None:
    """Nothing can be published or settled for a message that the broker gives out again."""
    if rabbitmq.node is None:
        pytest.skip("needs a broker whose connections we may close")
    async with connect() as connected:
        await put(outside, names.jobs, BODY)
        delivery, job = await delivered(connected)
        await close_connection(rabbitmq, f"ccfs-worker {options.host} consumer")

        assert await connected.session.lost()
        assert not delivery.alive
        for settle in (
            delivery.ack(),
            delivery.give_back(),
            delivery.reject(),
            delivery.publish(outcome_of(job), job),
            delivery.retry(Retry(0.05, 2)),
            delivery.park(ERROR, job),
        ):
            with pytest.raises(SessionLostError):
                await settle

    async with connect() as connected:
        again, _ = await delivered(connected)
        assert again.redelivered
        await again.ack()


async def alarms(broker: Broker) -> bool:
    """Whether the broker has any."""
    assert broker.node is not None
    told = await asyncio.to_thread(broker.node.rabbitmqctl, "eval", "rabbit_alarm:get_alarms().")
    return told.strip() != "[]"


async def close_connection(broker: Broker, name: str) -> None:
    """As an operator does. Connections of killed tests may bear the same name: all are closed."""
    assert broker.node is not None
    listed = await asyncio.to_thread(
        broker.node.rabbitmqctl, "list_connections", "pid", "client_properties", "--no-table-headers"
    )
    for line in listed.splitlines():
        if name in line:
            await asyncio.to_thread(broker.node.rabbitmqctl, "close_connection", line.split("\t")[0], "test")


@pytest.mark.parametrize("what", [Breaks.CONNECTION, Breaks.CHANNEL])
async def test_whatever_breaks_at_whatever_frame_is_noticed(
    options: BrokerOptions, outside: AbstractChannel, what: Breaks
) -> None:
    """A session does not open, or is lost, or works: it never looks well and takes nothing."""
    async with open_breaker(options.url, what, 0) as breaker:
        assert await works(replace(options, url=breaker.url), outside)
        frames = breaker.frames
    for after in range(1, frames + 1):
        async with open_breaker(options.url, what, after) as breaker:
            await works(replace(options, url=breaker.url), outside)
            assert breaker.frames >= after


async def works(options: BrokerOptions, outside: AbstractChannel) -> bool:
    """Open a session and do a job with it. False when it says that it does not work."""
    inbox = Inbox()
    try:
        async with (
            asyncio.timeout(60),
            open_session(
                options, on_job=inbox.jobs.put_nowait, on_dropped=inbox.dropped.put_nowait
            ) as session,
        ):
            await session.consume()
            await put(outside, options.topology.names.jobs, BODY)
            delivery = await unless_lost(session, inbox.jobs.get())
            job = read_job(delivery.envelope)
            await unless_lost(session, delivery.publish(outcome_of(job), job))
            await delivery.ack()
            return True
    except BrokerError:
        return False


async def unless_lost(session: Session, work: Coroutine[Any, Any, T]) -> T:
    task, lost = asyncio.create_task(work), asyncio.create_task(session.lost())
    await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
    for waiting in (task, lost):
        waiting.cancel()
    if not task.done():
        raise BrokerError(session.loss)
    try:
        return await task
    except SessionLostError:
        # Not only who publishes hears of it.
        await session.lost()
        raise


async def test_a_refused_login_is_one_line_without_the_password(options: BrokerOptions) -> None:
    wrong = replace(options, url=options.url.replace("guest:guest", "guest:wrong-password"))

    with pytest.raises(BrokerError, match="refused the login of 'guest': check user and password") as caught:
        await enter(wrong)

    assert "wrong-password" not in str(caught.value)


async def test_an_unreachable_broker_is_named(options: BrokerOptions) -> None:
    nowhere = replace(options, url="amqp://guest:guest@127.0.0.1:9/")

    with pytest.raises(BrokerError, match=r"RabbitMQ at 127.0.0.1:9/ cannot be reached.*WORKER_AMQP__URL"):
        await enter(nowhere)


async def test_the_next_host_is_tried_when_one_is_away(
    options: BrokerOptions,
    outside: AbstractChannel,  # noqa: ARG001
) -> None:
    """Whichever comes first by chance."""
    both = replace(options, url=options.url.replace("@", "@127.0.0.1:1,", 1))
    for _ in range(4):
        async with open_session(both, on_job=print, on_dropped=print):
            pass


async def test_a_list_of_hosts_that_are_all_away_names_each(options: BrokerOptions) -> None:
    away = replace(options, url="amqp://guest:S3cret@127.0.0.1:1,127.0.0.1:2/")
    with pytest.raises(BrokerError) as caught:
        async with open_session(away, on_job=print, on_dropped=print):
            pass

    assert "127.0.0.1:1" in str(caught.value)
    assert "127.0.0.1:2" in str(caught.value)
    assert "S3cret" not in str(caught.value)


async def test_a_broker_that_keeps_silent_is_not_waited_for(options: BrokerOptions) -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        url = f"amqp://guest:guest@127.0.0.1:{port}/"
        with pytest.raises(BrokerError, match=r"did not answer within 0\.2 s"):
            await enter(replace(options, url=url, connect_timeout=0.2))


async def test_a_missing_virtual_host_is_explained(options: BrokerOptions) -> None:
    with pytest.raises(BrokerError, match="nowhere"):
        await enter(replace(options, url=options.url + "nowhere"))


async def enter(options: BrokerOptions) -> None:
    async with open_session(options, on_job=lambda _: None, on_dropped=lambda _: None):
        pytest.fail("the session must not open")


async def test_with_declaring_off_a_session_only_checks(options: BrokerOptions, prefix: str) -> None:
    none = f"{prefix}.none"
    names = Names(jobs=none, results=none, results_queue=None, dead=none, failed=None)
    topology = Topology(names=names, tiers=(), delivery_limit=3)

    with pytest.raises(BrokerError, match="does not exist: make it"):
        await enter(replace(options, topology=topology, declare=False))
