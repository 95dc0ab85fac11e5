"""What Prometheus scrapes. Labels are bounded: no appId, file name or job id among them.

prometheus_client counts a whole job in about 12 µs: 1.4 % of the CPU that a small one costs.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from schemas import ErrorCode
from worker.core.job import Job
from worker.core.outcome import Ending
from worker.core.retry import PARKED, tier_name
from worker.errors import JobError
from worker.observe.failures import Failure, Failures
from worker.observe.gauges import GAUGES, Entry, Gauges, Labels, Readings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OK = "OK"
"""The `code` of a success, beside the contract's error codes."""
COMPLETED, FAILED = "completed", "failed"
"""The `status` of outcomes."""

NOBODY, CALLER, SERVICE = "none", "caller", "service"
"""The `fault` of outcomes: of a completed job; of one that no worker could complete, since the job, its
account or its file is wrong; of one that failed for a reason of ours, of CC-FS's or of what is between."""
FAULTS: Mapping[str, str] = {
    ErrorCode.INVALID_JOB: CALLER,
    ErrorCode.UNKNOWN_APP: CALLER,
    ErrorCode.UNAUTHORIZED: CALLER,
    ErrorCode.FILE_NOT_FOUND: CALLER,
    ErrorCode.REQUEST_REJECTED: CALLER,
    ErrorCode.FLOW_CONTROL: SERVICE,
    ErrorCode.UPSTREAM_ERROR: SERVICE,
    ErrorCode.UPSTREAM_UNREACHABLE: SERVICE,
    ErrorCode.TIMEOUT: SERVICE,
    ErrorCode.TRUNCATED: SERVICE,
    ErrorCode.CORRUPT_ARCHIVE: SERVICE,
    ErrorCode.TOO_LARGE: CALLER,
    ErrorCode.STORAGE_FULL: SERVICE,
    ErrorCode.STORAGE_ERROR: SERVICE,
    ErrorCode.DELIVERY_LIMIT: SERVICE,
    ErrorCode.INTERNAL_ERROR: SERVICE,
}
"""Whose fault a failed outcome is, by its error code."""

_UNROUTABLE, _UNCONFIRMED = "unroutable", "unconfirmed"


def powers_of_two(least: int, most: int) -> tuple[float, ...]:
    """Bounds from 2^least to 2^most seconds.

    Powers of two are bucket bounds of native histograms of every schema from 0 on (Prometheus "Native
    Histograms"): a quantile reads the same after a change to those.
    """
    return tuple(2.0**exponent for exponent in range(least, most + 1))


_BUILD = Entry(
    "ccfs_worker_build_info", "gauge", "Always 1; its labels say what runs.", ("version", "python")
)
_DISK_SECONDS = powers_of_two(-12, 5)
_WIRE_SECONDS = powers_of_two(-10, 7)
_JOB_SECONDS = powers_of_two(-8, 11)
_QUEUE_SECONDS = powers_of_two(0, 18)
"""From one second on: the timestamp of an AMQP message has whole seconds only."""


class Metrics:
    """Counts what happens; implements the observers of `worker.core`.

    Args:
        version: The worker's version.
        clock: Gives the time, UTC.

    Attributes:
        failures: The jobs that failed last; not scraped.
        outcomes: Outcomes by status and code.
        attempts: Attempts by code.
        retries: Jobs sent to wait for another attempt, by tier and code.
        downloaded_bytes: Bytes of files stored.
        sessions: Sessions with the broker.
    """

    def __init__(self, version: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self.failures = Failures()
        # Holds for the whole process. Otherwise each counter and histogram has a `_created` series as well.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._entries: list[Entry] = []
        self._declare_jobs()
        self._declare_durations()
        self._declare_broker()
        self._entries.append(_BUILD)
        build = Gauge(_BUILD.name, _BUILD.documentation, _BUILD.labels, registry=self._registry)
        build.labels(version, platform.python_version()).set(1)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    @property
    def catalogue(self) -> tuple[Entry, ...]:
        """Every metric that is ours, for the documents."""
        return *self._entries, *GAUGES

    def show(self, read: Callable[[], Readings]) -> None:
        """Add the gauges. `read` is called at each scrape.

        They are added last: they read parts of the worker, and those parts need this object to count.
        """
        self._registry.register(Gauges(read))

    def render(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def job_ended(
        self, ending: Ending, code: str, seconds: float, *, waited: float | None, age: float
    ) -> None:
        """Count a delivery that is no longer ours; see `worker.core.ports.Observer`."""
        self._job_seconds.labels(ending).observe(seconds)
        if not ending.is_attempt:
            return
        self.attempts.labels(code or OK).inc()
        if ending is not Ending.RETRIED:
            self.outcomes.labels(FAILED if code else COMPLETED, code or OK).inc()
            fault = FAULTS[code] if code else NOBODY
            self._outcome_age.labels(fault).observe(age)
        if waited is not None:
            self._queue_wait.observe(waited)

    def deferred(self) -> int:
        """Deliveries put back so far without an attempt, because they could not be tried."""
        return next(
            int(sample.value)
            for family in self._job_seconds.collect()
            for sample in family.samples
            if sample.name.endswith("_count") and sample.labels["ending"] == Ending.DEFERRED
        )

    def retried(self, code: str, delay: float) -> None:
        """Count a job sent to wait `delay` seconds for another attempt."""
        self.retries.labels(tier_name(delay), code).inc()

    def parked(self, code: str) -> None:
        """Count a message put among the dead letters."""
        self._dead_letters.labels(code).inc()

    def failed(self, job: Job, error: JobError) -> None:
        """Keep a failed job for the status; `job_ended` counts it."""
        self.failures.add(
            Failure(self._clock(), job.job_id, job.app_id, job.bill_file_name, error.code, error.message)
        )

    def failure_lost(self) -> None:
        """Count a failed job that could not be kept."""
        self._failures_lost.inc()

    def confirmed(self, seconds: float) -> None:
        """Record how long the broker took to confirm a message."""
        self._confirm_seconds.observe(seconds)

    def unconfirmed(self, *, unroutable: bool) -> None:
        """Count a message that the broker did not take."""
        self._publish_failures.labels(_UNROUTABLE if unroutable else _UNCONFIRMED).inc()

    def downloaded(self, size_bytes: int, seconds: float) -> None:
        """Count a stored file and its bytes, and record how long it took."""
        self.downloaded_bytes.inc(size_bytes)
        self._download_seconds.observe(seconds)

    def answered(self, seconds: float) -> None:
        """Record how long the first bytes of an answer of CC-FS took."""
        self._answer_seconds.observe(seconds)

    def synced(self, seconds: float) -> None:
        """Record how long an fsync took."""
        self._sync_seconds.observe(seconds)

    def session_opened(self) -> None:
        """Count a session with the broker."""
        self.sessions.inc()

    def _declare_jobs(self) -> None:
        self.outcomes = self._counter(
            "ccfs_worker_outcomes_total",
            "Outcome events published and confirmed, their jobs acknowledged.",
            ("status", "code"),
            known=[(COMPLETED, OK), *((FAILED, code) for code in ErrorCode)],
        )
        self.attempts = self._counter(
            "ccfs_worker_attempts_total",
            "Attempts at jobs, those that are tried again included.",
            ("code",),
            known=[(OK,), *((code,) for code in ErrorCode)],
        )
        self.retries = self._counter(
            "ccfs_worker_retries_total",
            "Jobs sent to wait in the broker for another attempt, by wait and error code.",
            ("tier", "code"),
        )
        self._dead_letters = self._counter(
            "ccfs_worker_dead_letters_total",
            "Messages parked among the dead letters.",
            ("code",),
            known=[(code,) for code in PARKED],
        )
        self._failures_lost = self._counter(
            "ccfs_worker_failures_not_kept_total",
            "Failed jobs whose event was confirmed, but that the queue of failed jobs did not take in time.",
        )

    def _declare_durations(self) -> None:
        self._job_seconds = self._histogram(
            "ccfs_worker_job_duration_seconds",
            "From a delivery's arrival to its settlement; its count is the number of deliveries.",
            _JOB_SECONDS,
            ("ending",),
            known=[(ending,) for ending in Ending],
        )
        self._queue_wait = self._histogram(
            "ccfs_worker_queue_wait_seconds",
            "From a job's timestamp to its first delivery; jobs without a timestamp are left out.",
            _QUEUE_SECONDS,
        )
        self._outcome_age = self._histogram(
            "ccfs_worker_outcome_age_seconds",
            "From a job's timestamp to its confirmed outcome, retries included; jobs without a timestamp "
            "count from their last delivery.",
            _QUEUE_SECONDS,
            ("fault",),
            known=[(NOBODY,), (CALLER,), (SERVICE,)],
        )
        self._download_seconds = self._histogram(
            "ccfs_worker_download_duration_seconds",
            "From the request to CC-FS to the durable file.",
            _JOB_SECONDS,
        )
        self._answer_seconds = self._histogram(
            "ccfs_worker_answer_duration_seconds",
            "From the request to the first bytes of a file, the wait for its turn under "
            "`WORKER_CCFS__MAX_REQUESTS_PER_SECOND` included.",
            _WIRE_SECONDS,
        )
        self._sync_seconds = self._histogram(
            "ccfs_worker_fsync_duration_seconds",
            "How long the storage takes to make a file's bytes durable.",
            _DISK_SECONDS,
        )
        self.downloaded_bytes = self._counter(
            "ccfs_worker_downloaded_bytes_total", "Bytes of files downloaded and stored."
        )

    def _declare_broker(self) -> None:
        self._confirm_seconds = self._histogram(
            "ccfs_worker_publish_confirm_duration_seconds",
            "How long the broker takes to confirm an event, a retry or a dead letter.",
            _WIRE_SECONDS,
        )
        self._publish_failures = self._counter(
            "ccfs_worker_publish_failures_total",
            "Messages that the broker did not take; each is published again until it does.",
            ("reason",),
            known=[(_UNROUTABLE,), (_UNCONFIRMED,)],
        )
        self.sessions = self._counter(
            "ccfs_worker_broker_sessions_total",
            "Sessions opened with RabbitMQ; each after the first is a reconnect.",
        )

    def _counter(
        self, name: str, documentation: str, labels: Labels = (), *, known: Iterable[Labels] = ()
    ) -> Counter:
        """Declare a counter; `known` label values show 0 from the start, so that rates see the first time."""
        self._entries.append(Entry(name, "counter", documentation, labels))
        counter = Counter(name, documentation, labels, registry=self._registry)
        for values in known:
            counter.labels(*values)
        return counter

    def _histogram(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        labels: Labels = (),
        *,
        known: Iterable[Labels] = (),
    ) -> Histogram:
        """Declare a histogram whose buckets end at `bounds`, in seconds."""
        self._entries.append(Entry(name, "histogram", documentation, labels))
        histogram = Histogram(name, documentation, labels, buckets=bounds, registry=self._registry)
        for values in known:
            histogram.labels(*values)
        return histogram


def counts(counter: Counter) -> dict[Labels, float]:
    """The values of a counter, by its label values."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in counter.collect()
        for sample in family.samples
    }
