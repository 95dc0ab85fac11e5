"""Handles each delivery to its end: download the file, publish the outcome, wait for its confirm, then ack.

Settlement is decided here and nowhere else:

    completed, or failed for good  ack, once the event is confirmed; before it the copies among the dead
                                   letters and the failed jobs (`_conclude`)
    to be tried again, or held     ack, once the copy that takes its place is confirmed (`_send_to_tier`,
                                   `_hold`)
    given back during a drain      nack with requeue
    a defect of ours               reject with requeue, which counts toward the delivery limit
    its session is over            nothing: the broker delivers it again

Every delivery is handled by a task of ours, which a closed channel does not cancel.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog

from schemas import DownloadFailed, ErrorCode, FailedJob, Outcome
from worker.core.accounts import AccountHeldError
from worker.core.context import LOG_FIELDS, SPAN
from worker.core.downloads import Download, Downloads, UnwantedError
from worker.core.job import Hold, Job, read_job
from worker.core.outcome import Ending, Execution, StoredFile, completed, failed, failed_job
from worker.core.ports import Delivery, Observer, Tracer, TraceSpan
from worker.core.progress import Progress
from worker.core.retry import PARKED, Retry, RetryPolicy, backoff
from worker.core.trace import NoTracer
from worker.core.unconfirmed import Unconfirmed
from worker.errors import DeferredError, JobError, NotConfirmedError, SessionLostError

_GAVE_UP = {
    "delivery_limit": "the broker gave up on the message: worker after worker died or lost its connection "
    "with it",
    "expired": "the job's time ran out in its queue before a worker took it: its own expiration, or a "
    "message TTL of the queue",
    "maxlen": "the broker dropped the job before a worker took it: its queue was over a length limit",
}
"""What happened to a job that the broker gave up on, by RabbitMQ's reason ("Dead Letter Exchanges")."""

log = structlog.stdlib.get_logger(__name__)


class InHand(NamedTuple):
    """A job whose delivery is in hand.

    Attributes:
        job: The job.
        since: When it was taken in, UTC.
        unconfirmed: Why its message waits for the broker to take it; empty when it does not.
    """

    job: Job
    since: datetime
    unconfirmed: str


class PublishPatience(NamedTuple):
    """How patient the worker is with the broker's confirms.

    Attributes:
        confirm_within: Seconds without a confirm after which a message is reported as late
            (`WORKER_AMQP__PUBLISH_TIMEOUT`). It is not published again.
        backoff: Base, in seconds, of the backoff before a refused or returned message is published again.
    """

    confirm_within: float = 15.0
    backoff: float = 0.5


@dataclass(slots=True)
class _Handled:
    """What is known so far of a delivery in hand."""

    job: Job
    since: datetime
    waited: float | None
    download: Download | None = None


class _End(NamedTuple):
    ending: Ending
    code: str = ""
    file: StoredFile | None = None


class Deliveries:
    """The deliveries in hand: receives them, handles each in a task of its own, and drains them.

    Args:
        downloads: Gives each job its file.
        policy: What follows a failed attempt.
        observer: Counts every ending and every message published.
        host: The name of this worker in its outcomes.
        clock: Gives the time, UTC and timezone-aware.
        tracer: Traces each job; without one, only `traceparent` is continued.
        patience: How long to wait for confirms.
    """

    def __init__(
        self,
        downloads: Downloads,
        *,
        policy: RetryPolicy,
        observer: Observer,
        host: str,
        clock: Callable[[], datetime],
        tracer: Tracer | None = None,
        patience: PublishPatience | None = None,
    ) -> None:
        self._downloads = downloads
        self._policy = policy
        self._accounts = downloads.accounts
        self._observer = observer
        self._host = host
        self._clock = clock
        self._tracer = tracer or NoTracer()
        self._handlers: dict[Delivery, asyncio.Task[None]] = {}
        self._in_hand: dict[Delivery, _Handled] = {}
        self._patience = patience or PublishPatience()
        self._unconfirmed = Unconfirmed(self._patience.confirm_within, clock)
        self._draining = False

    @property
    def in_flight(self) -> int:
        """How many deliveries are in hand."""
        return len(self._handlers)

    @property
    def in_hand(self) -> list[InHand]:
        """The jobs in hand, oldest first."""
        return [
            InHand(handled.job, handled.since, self._unconfirmed.problem_of(delivery))
            for delivery, handled in self._in_hand.items()
        ]

    @property
    def unconfirmed(self) -> str:
        """Why messages wait for the broker's confirm; empty when none is overdue or refused."""
        return self._unconfirmed.problem

    def receive(self, delivery: Delivery) -> None:
        """Start to handle a message of the job queue; returns immediately."""
        self._start(self._attempt, delivery)

    def receive_dropped(self, delivery: Delivery) -> None:
        """Start to handle a message that the broker gave up on: its outcome is DELIVERY_LIMIT."""
        self._start(self._fail_dropped, delivery)

    def drop_lost(self) -> None:
        """Let go of the deliveries whose session is over. Their downloads go on: a redelivery joins them."""
        for delivery in self._in_hand:
            if not delivery.alive:
                self._handlers[delivery].cancel()

    async def drain(self, grace: float) -> None:
        """Let what is in flight finish within `grace` seconds, then give the rest back to the broker.

        Deliveries that arrive from now on go back immediately.
        """
        self._draining = True
        if self._handlers:
            await asyncio.wait(self._handlers.values(), timeout=grace)
        # A task cancelled before its first step never runs, and its delivery would never be given back. Those
        # that have begun are in `_in_hand`; the others find `_draining` set and give back by themselves.
        for delivery in self._in_hand:
            self._handlers[delivery].cancel()
        # Not in a loop: the broker may go on delivering, and what arrives from now on gives back by itself.
        if self._handlers:
            await asyncio.wait(self._handlers.values())
        await self._downloads.stop()

    def _start(self, way: Callable[[Delivery, Job], Awaitable[_End]], delivery: Delivery) -> None:
        task = asyncio.create_task(self._handle(way, delivery))
        self._handlers[delivery] = task
        task.add_done_callback(lambda _: self._handlers.pop(delivery))

    async def _handle(self, way: Callable[[Delivery, Job], Awaitable[_End]], delivery: Delivery) -> None:
        job = read_job(delivery.envelope)
        started = asyncio.get_running_loop().time()
        span = self._tracer.begin(job)
        _enter(job, span)
        since, sent_at = self._clock(), delivery.envelope.sent_at
        # A copy or a redelivery has waited elsewhere, too.
        is_fresh = job.attempt == 1 and not delivery.redelivered
        waited = _since(sent_at, since) if sent_at is not None and is_fresh else None
        self._in_hand[delivery] = handled = _Handled(job, since, waited)
        end = await self._run(way, delivery, job)
        seconds = asyncio.get_running_loop().time() - started
        if end.ending.is_attempt:
            _log_settled(end, handled, seconds, redelivered=delivery.redelivered)
        span.end(end.ending, end.code)
        age = seconds if sent_at is None else _since(sent_at, self._clock())
        self._observer.job_ended(end.ending, end.code, seconds, waited=waited, age=age)

    async def _run(
        self, way: Callable[[Delivery, Job], Awaitable[_End]], delivery: Delivery, job: Job
    ) -> _End:
        try:
            if self._draining:
                return await _give_back(delivery)
            log.debug("job.received")
            if delivery.redelivered:
                log.info("job.redelivered")
            return await way(delivery, job)
        except (SessionLostError, UnwantedError) as exc:
            return _lose(exc)
        except asyncio.CancelledError:
            # By `drain`, after its grace: the message must still be given back. Or by `drop_lost`.
            return await _give_back(delivery)
        except Exception:
            log.exception("job.defect")
            return await _reject(delivery)
        finally:
            del self._in_hand[delivery]
            self._unconfirmed.forget(delivery)

    async def _attempt(self, delivery: Delivery, job: Job) -> _End:
        """The way of a message of the job queue."""
        if delivery.envelope.has_forged_death:
            # The copy is without it. Should this worker die, the broker can give up on the job.
            log.debug("job.deferred", reason="its x-death is none of RabbitMQ's")
            await self._send_to_tier(delivery, self._policy.defer(job.attempt, wait=0))
            return _End(Ending.DEFERRED)
        started_at = self._clock()
        try:
            file = await self._file_of(job, delivery)
        except AccountHeldError as exc:
            if (hold := self._accounts.kept_waiting(job, exc.error)) is not None:
                return await self._hold(delivery, job, hold)
            return await self._give_up(delivery, job, exc.error, started_at)
        except DeferredError as exc:
            log.debug("job.deferred", reason=str(exc))
            await self._send_to_tier(delivery, self._policy.defer(job.attempt, exc.wait))
            return _End(Ending.DEFERRED)
        except JobError as error:
            return await self._after_failure(delivery, job, error, started_at)
        log.debug("job.stored", path=file.path)
        await self._conclude(delivery, job, completed(job, file, self._execution(started_at)))
        return _End(Ending.COMPLETED, file=file)

    async def _fail_dropped(self, delivery: Delivery, job: Job) -> _End:
        """The way of a message that the broker gave up on."""
        death = delivery.envelope.death
        error = JobError(ErrorCode.DELIVERY_LIMIT, _GAVE_UP.get(death, _GAVE_UP["delivery_limit"]))
        return await self._give_up(delivery, job, error, self._clock())

    async def _file_of(self, job: Job, delivery: Delivery) -> StoredFile:
        if job.request is None:
            raise JobError(ErrorCode.INVALID_JOB, job.defect)
        download = self._downloads.join(job.request, lambda: delivery.alive)
        self._in_hand[delivery].download = download
        return await download.file()

    async def _after_failure(
        self, delivery: Delivery, job: Job, error: JobError, started_at: datetime
    ) -> _End:
        download = self._in_hand[delivery].download
        signed = None if download is None else download.progress.signed
        if (hold := self._accounts.refused(job, error, signed)) is not None:
            return await self._hold(delivery, job, hold)
        retry = self._policy.decide(error, job.attempt)
        if retry is None:
            return await self._give_up(delivery, job, error, started_at)
        log.warning("job.retried", **error.log_fields, delay=retry.delay, next_attempt=retry.attempt)
        await self._send_to_tier(delivery, retry)
        self._observer.retried(error.code, retry.delay)
        return _End(Ending.RETRIED, error.code)

    async def _give_up(self, delivery: Delivery, job: Job, error: JobError, started_at: datetime) -> _End:
        log.error("job.failed", **error.log_fields)
        if error.code in PARKED:
            await self._publish(delivery, lambda: delivery.park(error, job))
            self._observer.parked(error.code)
        await self._conclude(delivery, job, failed(job, error, self._execution(started_at)))
        self._observer.failed(job, error)
        return _End(Ending.FAILED, error.code)

    async def _hold(self, delivery: Delivery, job: Job, hold: Hold) -> _End:
        """Have a job wait for its account's key."""
        wait = self._accounts.wait(job.app_id or "")
        if job.hold is None:
            log.info("job.held", wait=round(wait, 3))
        else:
            log.debug("job.still_held", since=str(hold.since), wait=round(wait, 3))
        await self._publish(delivery, lambda: delivery.hold(hold, wait, job))
        await delivery.ack()
        return _End(Ending.HELD)

    async def _send_to_tier(self, delivery: Delivery, retry: Retry) -> None:
        # Confirmed before the ack: a crash between them repeats the job, and the other order could lose it.
        await self._publish(delivery, lambda: delivery.retry(retry))
        await delivery.ack()

    async def _conclude(self, delivery: Delivery, job: Job, outcome: Outcome) -> None:
        await self._publish(delivery, lambda: delivery.publish(outcome, job))
        log.debug("job.published", status=outcome.status)
        if isinstance(outcome, DownloadFailed) and delivery.keeps_failures:
            await self._keep(delivery, job, failed_job(outcome, delivery.envelope))
        # Last: a crash before it leaves a redelivery, which finds the file and publishes the event again.
        await delivery.ack()

    async def _keep(self, delivery: Delivery, job: Job, failure: FailedJob) -> None:
        """Keep a failed job for operators; it is tried for at most the publish timeout.

        Consumers have its event. A job that could not be acknowledged for lack of this copy would fail again,
        and have another event, by the next worker.
        """
        try:
            async with asyncio.timeout(self._patience.confirm_within):
                await self._publish(delivery, lambda: delivery.keep(failure, job))
        except TimeoutError:
            self._unconfirmed.forget(delivery)
            self._observer.failure_lost()
            log.error(
                "job.failure_lost",
                reason="the queue of failed jobs did not take it in time; its event is out",
            )

    async def _publish(self, delivery: Delivery, send: Callable[[], Awaitable[None]]) -> None:
        """Publish until the broker confirms: again after each refusal, until the delivery is lost.

        The job stays unacknowledged meanwhile. A late confirm is no reason to publish again: the message may
        be in its queue already.
        """
        failures = 0
        while True:
            self._unconfirmed.sent(delivery)
            try:
                await send()
            except NotConfirmedError as exc:
                failures += 1
                self._observer.unconfirmed(unroutable=exc.unroutable)
                self._unconfirmed.refused(delivery, str(exc))
                wait = backoff(failures, random.random(), base=self._patience.backoff)
                log.error(
                    "job.publish_unconfirmed", reason=str(exc), failures=failures, retry_in=round(wait, 1)
                )
            else:
                return self._observer.confirmed(self._unconfirmed.confirmed(delivery))
            await asyncio.sleep(wait)

    def _execution(self, started_at: datetime) -> Execution:
        return Execution(started_at=started_at, finished_at=self._clock(), worker=self._host)


def _since(sent_at: datetime, now: datetime) -> float:
    # The publisher's clock may be ahead of ours.
    return max(0.0, (now - sent_at).total_seconds())


def _enter(job: Job, span: TraceSpan) -> None:
    """Set the span and the log fields of the current task and of all that it starts."""
    SPAN.set(span)
    place = span.context
    said = {"publisher": job.publisher, "user": job.user}
    LOG_FIELDS.set(
        {
            "job_id": job.job_id,
            "attempt": job.attempt,
            "app_id": job.app_id,
            "file": job.bill_file_name,
            "trace_id": place.trace_id,
            "span_id": place.span_id,
            **{name: value for name, value in said.items() if value is not None},
        }
    )


def _log_settled(end: _End, handled: _Handled, seconds: float, *, redelivered: bool) -> None:
    """Write the one line that sums up an attempt. Unknown values are left out."""
    download = handled.download
    progress = Progress() if download is None else download.progress
    durations = {
        "queue_seconds": handled.waited,
        "wait_seconds": progress.wait_seconds,
        "download_seconds": progress.download_seconds,
        "answer_seconds": progress.answer_seconds,
        "sync_seconds": progress.sync_seconds,
    }
    log.info(
        "job.settled",
        ending=end.ending,
        code=end.code,
        **_file_fields(end.file, progress),
        redelivered=redelivered,
        joined=download is not None and download.is_joined,
        seconds=round(seconds, 3),
        **{name: round(value, 3) for name, value in durations.items() if value is not None},
    )


def _file_fields(file: StoredFile | None, progress: Progress) -> dict[str, object]:
    if file is not None:
        return {"path": file.path, "size_bytes": file.size_bytes, "reused": file.reused}
    if progress.answer_seconds is not None:
        return {"announced_bytes": progress.announced_bytes, "received_bytes": progress.received_bytes}
    return {}


async def _give_back(delivery: Delivery) -> _End:
    try:
        await delivery.give_back()
    except SessionLostError as exc:
        return _lose(exc)
    if delivery.orphaned:
        return _lose_orphan()
    log.info("job.given_back")
    return _End(Ending.GIVEN_BACK)


async def _reject(delivery: Delivery) -> _End:
    # A defect that hits on every redelivery must end. A reject counts toward the delivery limit on every
    # version of RabbitMQ; a nack does not since 4.3.
    try:
        await delivery.reject()
    except SessionLostError as exc:
        return _lose(exc)
    return _lose_orphan() if delivery.orphaned else _End(Ending.GIVEN_BACK)


def _lose(reason: Exception) -> _End:
    log.warning("job.delivery_lost", reason=str(reason))
    return _End(Ending.LOST)


def _lose_orphan() -> _End:
    # This line is all that is left of the job: no queue has its message any more.
    log.error("job.outcome_unpublished", reason="its queue was deleted, and no session took its outcome")
    return _End(Ending.LOST)
