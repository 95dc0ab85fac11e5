"""The way of a delivery, with broker and download at the seams: what is published, and when it is settled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from schemas import DownloadCompleted, DownloadFailed, DownloadJob, ErrorCode, FailedJob, Outcome
from worker.core.accounts import Accounts, HoldPolicy
from worker.core.deliveries import Deliveries, PublishPatience
from worker.core.downloads import Downloads
from worker.core.gate import Gate
from worker.core.job import Envelope, Hold, Job, hold_headers
from worker.core.outcome import Ending, StoredFile
from worker.core.pace import Pace
from worker.core.progress import Progress
from worker.core.retry import Retry, RetryPolicy
from worker.errors import JobError, NotConfirmedError, SessionLostError

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
GOOD = b'{"appId": "app1", "billFileName": "20260131_a.zip"}'
OTHER = b'{"appId": "app1", "billFileName": "20260131_b.zip"}'
FILE = StoredFile(path="app1/20260131/20260131_a.zip", size_bytes=3, sha256="0" * 64, reused=False)


@dataclass(eq=False)
class Message:
    """A delivery that writes down what is done with it, in order."""

    body: bytes = GOOD
    attempt: int = 1
    redelivered: bool = False
    sent_at: datetime | None = None
    death: str = ""
    has_forged_death: bool = False
    alive: bool = True
    orphaned: bool = False
    keeps_failures: bool = False
    kept: list[FailedJob] = field(default_factory=list)
    was: Hold | None = None
    holds: list[Hold] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    after: Callable[[str], None] = lambda _: None

    @property
    def envelope(self) -> Envelope:
        return Envelope(
            body=self.body,
            death=self.death,
            has_forged_death=self.has_forged_death,
            message_id="m1",
            headers={"x-attempt": self.attempt, **(hold_headers(self.was) if self.was else {})},
            sent_at=self.sent_at,
        )

    async def publish(self, outcome: Outcome, job: Job) -> None:
        assert job.job_id == outcome.job_id
        self._do("publish")
        self.outcomes.append(outcome)

    async def keep(self, failure: FailedJob, job: Job) -> None:
        assert job.job_id == failure.job_id
        self._do("keep")
        self.kept.append(failure)

    async def retry(self, retry: Retry) -> None:
        self._do(f"retry {retry.delay:g} {retry.attempt}")

    async def hold(self, hold: Hold, wait: float, job: Job) -> None:
        self._do(f"hold {wait:g} {job.attempt}")
        self.holds.append(hold)

    async def park(self, error: JobError, job: Job) -> None:
        self._do(f"park {error.code}")
        assert job.job_id == "m1"

    async def ack(self) -> None:
        self._do("ack")

    async def give_back(self) -> None:
        self._do("nack")

    async def reject(self) -> None:
        self._do("reject")

    def _do(self, step: str) -> None:
        if not self.alive:
            raise SessionLostError("gone")
        if self.refusals:
            raise self.refusals.pop(0)
        self.steps.append(step)
        self.after(step)


class Endings:
    """An observer that counts, and tells when something ended."""

    def __init__(self) -> None:
        self.endings: list[tuple[Ending, str]] = []
        self.waits: list[float | None] = []
        self.ages: list[float] = []
        self.notes: list[str] = []
        self.sizes: list[int] = []
        self._changed = asyncio.Event()

    def job_ended(
        self, ending: Ending, code: str, seconds: float, *, waited: float | None, age: float
    ) -> None:
        assert seconds >= 0
        self.endings.append((ending, code))
        self.waits.append(waited)
        self.ages.append(age)
        self._changed.set()

    def retried(self, code: str, delay: float) -> None:
        self.notes.append(f"retried {code} {delay:g}")

    def parked(self, code: str) -> None:
        self.notes.append(f"parked {code}")

    def failed(self, job: Job, error: JobError) -> None:
        pass

    def failure_lost(self) -> None:
        self.notes.append("failure lost")

    def confirmed(self, seconds: float) -> None:
        assert seconds >= 0
        self.notes.append("confirmed")

    def unconfirmed(self, *, unroutable: bool) -> None:
        self.notes.append("unroutable" if unroutable else "unconfirmed")

    def downloaded(self, size_bytes: int, seconds: float) -> None:
        assert seconds >= 0
        self.sizes.append(size_bytes)

    def answered(self, seconds: float) -> None:
        assert seconds >= 0

    def synced(self, seconds: float) -> None:
        assert seconds >= 0

    async def wait_for(self, count: int) -> list[tuple[Ending, str]]:
        while len(self.endings) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.endings


@dataclass
class Fetch:
    """A download whose end the test decides."""

    result: StoredFile | Exception = FILE
    held: bool = False
    calls: list[DownloadJob] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, job: DownloadJob, progress: Progress) -> StoredFile:
        self.calls.append(job)
        self.begun.set()
        if self.held:
            await self.go_on.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@dataclass
class Outage:
    """A watch that takes every failure for an outage while told so."""

    is_out: bool = False
    successes: int = 0

    async def failed(self, error: JobError) -> bool:
        return self.is_out and isinstance(error, JobError)

    def succeeded(self) -> None:
        self.successes += 1


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - each round of the loop counts
        await asyncio.sleep(0)


@dataclass
class Bench:
    fetch: Fetch
    gate: Gate
    watch: Outage
    pace: Pace
    accounts: Accounts
    seen: Endings
    deliveries: Deliveries


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Patient with confirms for 10 ms, or for as long as the test asks for."""
    fetch, gate, watch, seen = Fetch(), Gate(), Outage(), Endings()
    pace = Pace(concurrency=4, per_app=1, patience=60, clock=asyncio.get_running_loop().time)
    accounts = Accounts(HoldPolicy(at_most=3600, probe_interval=60), clock=lambda: NOW)
    downloads = Downloads(fetch, pace=pace, gate=gate, accounts=accounts, watches=[watch], observer=seen)
    deliveries = Deliveries(
        downloads,
        policy=RetryPolicy(delays=(10.0, 60.0)),
        observer=seen,
        host="w1",
        clock=lambda: NOW,
        patience=PublishPatience(confirm_within=getattr(request, "param", 0.01), backoff=0.001),
    )
    yield Bench(fetch, gate, watch, pace, accounts, seen, deliveries)
    await deliveries.drain(grace=0)


async def test_a_job_is_acknowledged_after_its_event(bench: Bench) -> None:
    message = Message(attempt=2)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.COMPLETED, "")]
    assert message.steps == ["publish", "ack"]
    (outcome,) = message.outcomes
    assert isinstance(outcome, DownloadCompleted)
    assert (outcome.job_id, outcome.attempts, outcome.path, outcome.worker) == ("m1", 2, FILE.path, "w1")
    assert (bench.seen.sizes, bench.watch.successes) == ([3], 1)


async def test_a_forged_x_death_is_left_behind_before_anything_else(bench: Bench) -> None:
    message = Message(attempt=2, has_forged_death=True)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.DEFERRED, "")]
    assert message.steps == ["retry 10 2", "ack"]
    assert bench.fetch.calls == []


async def test_an_orphan_that_the_drain_meets_is_in_the_log(bench: Bench) -> None:
    bench.fetch.held = True
    message = Message(orphaned=True)
    bench.deliveries.receive(message)
    await bench.fetch.begun.wait()

    with capture_logs() as lines:
        await bench.deliveries.drain(grace=0)

    assert [line["event"] for line in lines] == ["job.outcome_unpublished"]
    assert bench.seen.endings == [(Ending.LOST, "")]


async def test_a_failed_attempt_waits_in_the_broker(bench: Bench) -> None:
    bench.fetch.result = JobError(ErrorCode.TRUNCATED, "cut")
    message = Message()

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.RETRIED, "TRUNCATED")]
    assert message.steps == ["retry 10 2", "ack"]
    assert bench.seen.notes == ["confirmed", "retried TRUNCATED 10"]


async def test_the_last_attempt_ends_in_a_failed_event(bench: Bench) -> None:
    bench.fetch.result = JobError(ErrorCode.TRUNCATED, "cut", http_status=200)
    message = Message(attempt=3)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.FAILED, "TRUNCATED")]
    assert message.steps == ["publish", "ack"]
    (outcome,) = message.outcomes
    assert isinstance(outcome, DownloadFailed)
    assert (outcome.error_code, outcome.error_message, outcome.http_status, outcome.attempts) == (
        ErrorCode.TRUNCATED,
        "cut",
        200,
        3,
    )


async def test_an_unreadable_message_is_parked_and_told(bench: Bench) -> None:
    message = Message(body=b"nonsense")

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.FAILED, "INVALID_JOB")]
    assert message.steps == ["park INVALID_JOB", "publish", "ack"]
    assert bench.seen.notes == ["confirmed", "parked INVALID_JOB", "confirmed"]
    assert bench.fetch.calls == []


async def test_a_message_that_the_broker_gave_up_on_is_parked_and_told(bench: Bench) -> None:
    message = Message()

    bench.deliveries.receive_dropped(message)

    assert await bench.seen.wait_for(1) == [(Ending.FAILED, "DELIVERY_LIMIT")]
    assert message.steps == ["park DELIVERY_LIMIT", "publish", "ack"]
    assert bench.fetch.calls == []


@pytest.mark.parametrize(
    ("death", "told"),
    [
        ("delivery_limit", "worker after worker died"),
        ("expired", "time ran out in its queue"),
        ("maxlen", "over a length limit"),
        ("rejected", "worker after worker died"),
        ("", "worker after worker died"),
    ],
)
async def test_the_event_says_why_the_broker_gave_up(bench: Bench, death: str, told: str) -> None:
    message = Message(death=death)

    bench.deliveries.receive_dropped(message)
    await bench.seen.wait_for(1)

    (event,) = message.outcomes
    assert isinstance(event, DownloadFailed)
    assert event.error_code is ErrorCode.DELIVERY_LIMIT
    assert told in event.error_message


@pytest.mark.parametrize(
    ("message", "waited"),
    [
        (Message(sent_at=NOW - timedelta(seconds=90)), 90),
        (Message(sent_at=NOW + timedelta(seconds=5)), 0),
        (Message(), None),
        (Message(sent_at=NOW - timedelta(seconds=90), attempt=2), None),
        (Message(sent_at=NOW - timedelta(seconds=90), redelivered=True), None),
    ],
    ids=["waited", "publisher's clock ahead", "no timestamp", "a retry", "a redelivery"],
)
async def test_the_wait_in_the_queue_is_that_of_the_first_delivery(
    bench: Bench, message: Message, waited: float | None
) -> None:
    bench.deliveries.receive(message)

    await bench.seen.wait_for(1)
    assert bench.seen.waits == [waited]


@pytest.mark.parametrize(
    ("message", "age"),
    [
        (Message(sent_at=NOW - timedelta(seconds=90)), 90),
        (Message(sent_at=NOW - timedelta(seconds=90), attempt=2), 90),
        (Message(sent_at=NOW + timedelta(seconds=5)), 0),
    ],
    ids=["first delivery", "a retry", "publisher's clock ahead"],
)
async def test_the_age_of_an_outcome_counts_from_the_publication(
    bench: Bench, message: Message, age: float
) -> None:
    bench.deliveries.receive(message)

    await bench.seen.wait_for(1)
    assert bench.seen.ages == [age]


async def test_a_twin_joins_the_running_download(bench: Bench) -> None:
    """Two messages for one file, or a redelivery: one download, an outcome for each."""
    bench.fetch.held = True
    twins = [Message(), Message()]

    for twin in twins:
        bench.deliveries.receive(twin)
    await bench.fetch.begun.wait()
    bench.fetch.go_on.set()

    await bench.seen.wait_for(2)
    assert [twin.steps for twin in twins] == [["publish", "ack"]] * 2
    assert len(bench.fetch.calls) == 1


async def test_a_download_outlives_its_session(bench: Bench) -> None:
    """The redelivery gets the file of the download that the lost delivery had started."""
    bench.fetch.held = True
    lost, redelivered = Message(), Message(redelivered=True)
    bench.deliveries.receive(lost)
    await bench.fetch.begun.wait()

    lost.alive = False
    bench.deliveries.receive(redelivered)
    bench.fetch.go_on.set()

    assert sorted(await bench.seen.wait_for(2)) == [(Ending.COMPLETED, ""), (Ending.LOST, "")]
    assert (lost.steps, redelivered.steps) == ([], ["publish", "ack"])
    assert len(bench.fetch.calls) == 1


async def test_deliveries_of_dead_sessions_are_not_in_hand(bench: Bench) -> None:
    """A job that comes again and again while it downloads is one job in hand; an orphan stays one."""
    bench.fetch.held = True
    orphan = Message(body=OTHER, orphaned=True)
    bench.deliveries.receive(orphan)
    messages = [Message(redelivered=redelivered) for redelivered in (False, True, True, True)]
    for session, last in enumerate(messages, 1):
        bench.deliveries.receive(last)
        await until(lambda: len(bench.deliveries.in_hand) == 2)
        last.alive = session == 4
        bench.deliveries.drop_lost()
        await bench.seen.wait_for(min(session, 3))
    await until(lambda: bench.deliveries.in_flight == 2)
    bench.fetch.go_on.set()

    endings = await bench.seen.wait_for(5)
    assert endings.count((Ending.LOST, "")) == 3
    assert (orphan.steps, messages[-1].steps) == (["publish", "ack"], ["publish", "ack"])
    assert [job.bill_file_name for job in bench.fetch.calls].count("20260131_a.zip") == 1


async def test_a_redelivery_after_the_last_attempt_gets_its_own(bench: Bench) -> None:
    """It comes in after the download has failed and before asyncio has run what follows from that."""
    bench.fetch.held = True
    bench.fetch.result = JobError(ErrorCode.TRUNCATED, "cut")
    first, redelivered = Message(), Message(redelivered=True)
    bench.deliveries.receive(first)
    await bench.fetch.begun.wait()

    bench.fetch.go_on.set()
    bench.deliveries.receive(redelivered)

    await bench.seen.wait_for(2)
    assert len(bench.fetch.calls) == 2


async def test_a_download_begins_for_any_delivery_that_waits_for_it(bench: Bench) -> None:
    """The delivery that asked first is lost while the download waits for its place."""
    bench.fetch.held = True
    bench.deliveries.receive(Message(body=OTHER))
    await bench.fetch.begun.wait()
    lost, redelivered = Message(), Message(redelivered=True)
    for message in (lost, redelivered):
        bench.deliveries.receive(message)
        await asyncio.sleep(0)

    lost.alive = False
    bench.fetch.go_on.set()

    assert sorted(await bench.seen.wait_for(3)) == [(Ending.COMPLETED, "")] * 2 + [(Ending.LOST, "")]
    assert redelivered.steps == ["publish", "ack"]
    assert len(bench.fetch.calls) == 2


async def test_a_job_over_its_accounts_share_goes_around_uncounted(bench: Bench) -> None:
    bench.fetch.held = True
    bench.deliveries.receive(Message())
    await bench.fetch.begun.wait()
    waiting, refused = Message(body=OTHER, attempt=2), Message(body=OTHER.replace(b"_b", b"_c"), attempt=2)

    bench.deliveries.receive(waiting)
    bench.deliveries.receive(refused)

    assert await bench.seen.wait_for(1) == [(Ending.DEFERRED, "")]
    assert (waiting.steps, refused.steps) == ([], ["retry 10 2", "ack"])
    bench.fetch.go_on.set()
    await bench.seen.wait_for(3)
    assert waiting.steps == ["publish", "ack"]


async def test_nothing_begins_while_the_gate_is_closed(bench: Bench) -> None:
    bench.gate.close("upstream", "silent")
    message = Message(attempt=2)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.DEFERRED, "")]
    assert (message.steps, bench.fetch.calls) == (["retry 10 2", "ack"], [])


async def test_an_outage_burns_no_attempt(bench: Bench) -> None:
    bench.fetch.result = JobError(ErrorCode.UPSTREAM_UNREACHABLE, "nobody there")
    bench.watch.is_out = True
    message = Message(attempt=3)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.DEFERRED, "")]
    assert message.steps == ["retry 10 3", "ack"]


@pytest.mark.parametrize(
    ("result", "limit"),
    [
        (replace(FILE, reused=True), 2),
        (JobError(ErrorCode.FILE_NOT_FOUND, "none", http_status=404), 4),
        (FILE, 4),
    ],
    ids=["reused", "answered", "downloaded"],
)
async def test_after_an_outage_each_finished_job_widens_the_window(
    bench: Bench, result: StoredFile | Exception, limit: int
) -> None:
    bench.pace.collapse()
    assert bench.pace.limit == 1
    bench.fetch.result = result

    for number in range(1, 11):
        bench.deliveries.receive(Message())
        await bench.seen.wait_for(number)

    assert bench.pace.limit == limit


async def test_an_event_is_published_until_it_is_confirmed(bench: Bench) -> None:
    refusals: list[Exception] = [
        NotConfirmedError("returned", unroutable=True),
        NotConfirmedError("no confirm"),
    ]
    message = Message(refusals=refusals)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.COMPLETED, "")]
    assert message.steps == ["publish", "ack"]
    assert bench.deliveries.unconfirmed == ""
    assert bench.seen.notes == ["unroutable", "unconfirmed", "confirmed"]


async def test_a_failed_job_is_kept_after_its_event(bench: Bench) -> None:
    bench.fetch.result = JobError(ErrorCode.REQUEST_REJECTED, "no")
    message = Message(keeps_failures=True)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.FAILED, "REQUEST_REJECTED")]
    assert message.steps == ["publish", "keep", "ack"]
    (kept,), (outcome,) = message.kept, message.outcomes
    assert kept.job == GOOD.decode()
    assert kept.model_dump(exclude={"job"}) == outcome.model_dump()


@pytest.mark.parametrize("bench", [60], indirect=True)
async def test_a_failed_job_is_kept_once_its_copy_is_taken(bench: Bench) -> None:
    message = Message(body=b"nonsense", keeps_failures=True)

    def refuse_the_copy_twice(step: str) -> None:
        if step == "publish":
            message.refusals = [NotConfirmedError("gone", unroutable=True), NotConfirmedError("nacked")]

    message.after = refuse_the_copy_twice
    bench.deliveries.receive(message)

    await bench.seen.wait_for(1)
    assert message.steps == ["park INVALID_JOB", "publish", "keep", "ack"]
    assert bench.seen.notes[-3:] == ["unroutable", "unconfirmed", "confirmed"]


async def test_a_copy_that_nobody_takes_holds_no_job_for_good(bench: Bench) -> None:
    """Neither a queue that never confirms nor one that is not there."""

    @dataclass(eq=False)
    class Untaken(Message):
        is_silent: bool = False

        async def keep(self, failure: FailedJob, job: Job) -> None:
            if self.is_silent:
                await asyncio.Event().wait()
            raise NotConfirmedError("no queue takes it", unroutable=True)

    bench.fetch.result = JobError(ErrorCode.REQUEST_REJECTED, "no")
    gone, silent = (
        Untaken(keeps_failures=True),
        Untaken(body=OTHER, keeps_failures=True, is_silent=True),
    )
    with capture_logs() as lines:
        for message in (gone, silent):
            bench.deliveries.receive(message)
        assert await bench.seen.wait_for(2) == [(Ending.FAILED, "REQUEST_REJECTED")] * 2

    assert [message.steps for message in (gone, silent)] == [["publish", "ack"]] * 2
    assert bench.seen.notes.count("failure lost") == 2
    assert [line["event"] for line in lines].count("job.failure_lost") == 2
    assert bench.deliveries.unconfirmed == ""


async def test_a_job_whose_event_is_not_confirmed_shows_why(bench: Bench) -> None:
    asked = asyncio.Event()

    class Unconfirmed(Message):
        async def publish(self, outcome: Outcome, job: Job) -> None:
            asked.set()
            raise NotConfirmedError("no queue takes it")

    message = Unconfirmed()
    bench.deliveries.receive(message)
    await asked.wait()

    assert bench.deliveries.unconfirmed == "no queue takes it"
    assert message.steps == []


@dataclass(eq=False)
class Slow(Message):
    """A delivery whose publishes the broker confirms only when the test says so."""

    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    published: int = 0

    async def publish(self, outcome: Outcome, job: Job) -> None:
        self.published += 1
        await self.confirmed.wait()
        await super().publish(outcome, job)


async def test_a_late_confirm_counts_and_nothing_is_repeated(bench: Bench) -> None:
    """Past its patience the worker reports the silence; it publishes no second event."""
    first, second = Slow(), Slow(body=OTHER)
    bench.deliveries.receive(first)
    bench.deliveries.receive(second)
    await until(lambda: sum(bool(held.unconfirmed) for held in bench.deliveries.in_hand) == 2)
    await until(lambda: bool(bench.deliveries.unconfirmed))
    reasons = [held.unconfirmed for held in bench.deliveries.in_hand]

    first.confirmed.set()
    await bench.seen.wait_for(1)
    still = bench.deliveries.unconfirmed
    second.confirmed.set()

    assert await bench.seen.wait_for(2) == [(Ending.COMPLETED, "")] * 2
    late = "the broker has not confirmed a message since 2026-01-31T08:15:00Z"
    assert [reason.startswith(late) for reason in (*reasons, still)] == [True] * 3
    assert bench.deliveries.unconfirmed == ""
    assert (first.published, first.steps) == (1, ["publish", "ack"])
    assert (second.published, second.steps) == (1, ["publish", "ack"])


async def test_a_late_confirm_is_logged_once(bench: Bench) -> None:
    """However many messages wait, one line says so, and one that it is over."""
    slow = [Slow(body=GOOD.replace(b"_a", b"_%d" % number)) for number in range(5)]
    with capture_logs() as lines:
        for message in slow:
            bench.deliveries.receive(message)
        await until(lambda: bool(bench.deliveries.unconfirmed))
        for message in slow:
            message.confirmed.set()
        await bench.seen.wait_for(5)

    events = [line["event"] for line in lines]
    assert [events.count("broker.confirms_late"), events.count("broker.confirms_again")] == [1, 1]


async def test_a_session_that_ends_ends_the_wait_for_its_confirm(bench: Bench) -> None:
    class Lost(Slow):
        async def publish(self, outcome: Outcome, job: Job) -> None:
            await self.confirmed.wait()
            raise SessionLostError("gone")

    message = Lost()
    bench.deliveries.receive(message)
    await until(lambda: bool(bench.deliveries.unconfirmed))

    message.confirmed.set()

    assert await bench.seen.wait_for(1) == [(Ending.LOST, "")]
    assert bench.deliveries.unconfirmed == ""


async def test_a_defect_of_a_download_is_an_internal_error(bench: Bench) -> None:
    bench.fetch.result = ZeroDivisionError("secret detail")
    message = Message(attempt=3)

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.FAILED, "INTERNAL_ERROR")]
    (outcome,) = message.outcomes
    assert isinstance(outcome, DownloadFailed)
    assert "secret" not in outcome.error_message


async def test_a_defect_on_the_way_is_counted_by_the_broker(bench: Bench) -> None:
    message = Message(refusals=[ZeroDivisionError("defect")])

    bench.deliveries.receive(message)

    assert await bench.seen.wait_for(1) == [(Ending.GIVEN_BACK, "")]
    assert message.steps == ["reject"]


async def test_draining_waits_for_what_is_in_flight(bench: Bench) -> None:
    bench.fetch.held = True
    message = Message()
    bench.deliveries.receive(message)
    await bench.fetch.begun.wait()

    draining = asyncio.create_task(bench.deliveries.drain(grace=60))
    late = Message(body=OTHER)
    await asyncio.sleep(0)
    bench.deliveries.receive(late)
    bench.fetch.go_on.set()
    await draining

    assert (message.steps, late.steps) == (["publish", "ack"], ["nack"])


async def test_what_does_not_finish_within_the_grace_is_given_back(bench: Bench) -> None:
    bench.fetch.held = True
    message = Message()
    bench.deliveries.receive(message)
    await bench.fetch.begun.wait()

    await bench.deliveries.drain(grace=0)

    assert message.steps == ["nack"]
    assert bench.seen.endings == [(Ending.GIVEN_BACK, "")]
