"""What Prometheus scrapes. Labels are bounded: no appId, file name or job id among them."""

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from schemas import ErrorCode
from worker.core.deliveries import Ending
from worker.core.retry import tier_name
from worker.observe.families import Entry, Families
from worker.observe.tally import powers_of_two

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OK = "OK"
"""The `code` of what went well, beside the contract's error codes."""
COMPLETED, FAILED = "completed", "failed"
"""The `status` of outcomes."""

_ATTEMPTED = frozenset({Ending.COMPLETED, Ending.FAILED, Ending.RETRIED})
_PARKED = (ErrorCode.INVALID_JOB, ErrorCode.DELIVERY_LIMIT)
_UNROUTABLE, _UNCONFIRMED = "unroutable", "unconfirmed"

_DISK_SECONDS = powers_of_two(-12, 5)
_WIRE_SECONDS = powers_of_two(-10, 7)
_JOB_SECONDS = powers_of_two(-8, 11)
_QUEUE_SECONDS = powers_of_two(0, 18)
"""From one second on: the timestamp of an AMQP message has no finer resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What is looked at when scraped.

    Attributes:
        in_flight: Deliveries in hand.
        downloads: Downloads under way.
        concurrency_limit: Downloads that may run at once now.
        paused: By reason, whether intake is paused for it.
        checks: By name, whether a check of `/readyz` passes.
        free_bytes: Free bytes on the storage volume; NaN when unknown.
        reserved_bytes: Bytes that are to stay free there.
        storage_silence: Seconds for which the longest call to that volume has waited.
        left_behind: Threads that hold a call to it whose job was given up.
    """

    in_flight: int = 0
    downloads: int = 0
    concurrency_limit: int = 0
    paused: Mapping[str, bool] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)
    free_bytes: float = math.nan
    reserved_bytes: float = math.nan
    storage_silence: float = 0.0
    left_behind: int = 0


class Metrics:
    """The worker's figures, told of what happens; implements the observers of intake and downloads.

    Args:
        version: The worker's version.

    Attributes:
        outcomes: Outcomes by status and code.
        attempts: Attempts by code.
        retries: Jobs sent around, by tier and code.
        downloaded_bytes: Bytes of files stored.
        sessions: Sessions with the broker.
        read: Gives what the gauges show; cheap and without I/O.
    """

    def __init__(self, version: str) -> None:
        self.read: Callable[[], Readings] = Readings
        self._families = Families()
        self._declare_jobs()
        self._declare_durations()
        self._declare_broker()
        self._declare_gauges(version)
        self._registry = CollectorRegistry()
        self._registry.register(self._families)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    @property
    def catalogue(self) -> tuple[Entry, ...]:
        """Every metric of the worker's own, for its documents."""
        return tuple(self._families.entries)

    def render(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def job_ended(self, ending: Ending, code: str, seconds: float, waited: float | None) -> None:
        """Count a delivery that is no longer ours; see `worker.core.deliveries.Observer`."""
        self._job_seconds[ending].add(seconds)
        if ending not in _ATTEMPTED:
            return
        self.attempts[(code or OK,)] += 1
        if ending is not Ending.RETRIED:
            self.outcomes[FAILED if code else COMPLETED, code or OK] += 1
        if waited is not None:
            self._queue_wait.add(waited)

    def retried(self, code: str, delay: float) -> None:
        """Count a job sent to wait `delay` seconds for another attempt."""
        self.retries[tier_name(delay), code] += 1

    def parked(self, code: str) -> None:
        """Count a message put among the dead letters."""
        self._dead_letters[(code,)] += 1

    def confirmed(self, seconds: float) -> None:
        """Take note how long the broker took to confirm a message."""
        self._confirm_seconds.add(seconds)

    def unconfirmed(self, *, unroutable: bool) -> None:
        """Count a message that the broker did not take."""
        self._publish_failures[(_UNROUTABLE if unroutable else _UNCONFIRMED,)] += 1

    def downloaded(self, size_bytes: int, seconds: float) -> None:
        """Count a file."""
        self.downloaded_bytes[()] += size_bytes
        self._download_seconds.add(seconds)

    def answered(self, seconds: float) -> None:
        """Take note how long CC-FS took to begin its answer."""
        self._answer_seconds.add(seconds)

    def synced(self, seconds: float) -> None:
        """Take note how long the storage took to make a file's bytes durable."""
        self._sync_seconds.add(seconds)

    def session_opened(self) -> None:
        """Count a session with the broker."""
        self.sessions[()] += 1

    def _declare_jobs(self) -> None:
        self.outcomes = self._families.counter(
            "ccfs_worker_outcomes_total",
            "Outcome events published and confirmed, their jobs acknowledged.",
            ("status", "code"),
            known=[(COMPLETED, OK), *((FAILED, code) for code in ErrorCode)],
        )
        self.attempts = self._families.counter(
            "ccfs_worker_attempts_total",
            "Attempts at jobs, those that are tried again included.",
            ("code",),
            known=[(OK,), *((code,) for code in ErrorCode)],
        )
        self.retries = self._families.counter(
            "ccfs_worker_retries_total",
            "Jobs sent to wait in the broker for another attempt, by how long and by why.",
            ("tier", "code"),
        )
        self._dead_letters = self._families.counter(
            "ccfs_worker_dead_letters_total",
            "Messages parked among the dead letters.",
            ("code",),
            known=[(code,) for code in _PARKED],
        )

    def _declare_durations(self) -> None:
        self._job_seconds = self._families.histograms(
            "ccfs_worker_job_duration_seconds",
            "From a delivery's arrival to its settlement; its count is the number of deliveries.",
            _JOB_SECONDS,
            "ending",
            known=Ending,
        )
        self._queue_wait = self._families.histogram(
            "ccfs_worker_queue_wait_seconds",
            "From a job's timestamp to its first delivery; jobs without a timestamp are left out.",
            _QUEUE_SECONDS,
        )
        self._download_seconds = self._families.histogram(
            "ccfs_worker_download_duration_seconds",
            "From the request to CC-FS to the durable file.",
            _JOB_SECONDS,
        )
        self._answer_seconds = self._families.histogram(
            "ccfs_worker_answer_duration_seconds",
            "From the request to the first bytes of a file, the wait for its turn under "
            "`WORKER_CCFS__MAX_REQUESTS_PER_SECOND` included.",
            _WIRE_SECONDS,
        )
        self._sync_seconds = self._families.histogram(
            "ccfs_worker_fsync_duration_seconds",
            "How long the storage takes to make a file's bytes durable.",
            _DISK_SECONDS,
        )
        self.downloaded_bytes = self._families.counter(
            "ccfs_worker_downloaded_bytes_total", "Bytes of files downloaded and stored.", known=[()]
        )

    def _declare_broker(self) -> None:
        self._confirm_seconds = self._families.histogram(
            "ccfs_worker_publish_confirm_duration_seconds",
            "How long the broker takes to confirm an event, a retry or a dead letter.",
            _WIRE_SECONDS,
        )
        self._publish_failures = self._families.counter(
            "ccfs_worker_publish_failures_total",
            "Messages that the broker did not take; each is published again until it does.",
            ("reason",),
            known=[(_UNROUTABLE,), (_UNCONFIRMED,)],
        )
        self.sessions = self._families.counter(
            "ccfs_worker_broker_sessions_total",
            "Sessions opened with RabbitMQ; each after the first is a reconnect.",
            known=[()],
        )

    def _declare_gauges(self, version: str) -> None:
        gauge, gauges = self._families.gauge, self._families.gauges
        gauge("ccfs_worker_jobs_in_flight", "Deliveries in hand.", lambda: self.read().in_flight)
        gauge(
            "ccfs_worker_downloads_in_flight",
            "Downloads under way or waiting for their place.",
            lambda: self.read().downloads,
        )
        gauge(
            "ccfs_worker_concurrency_limit",
            "Downloads that may run at once now; below `WORKER_CONCURRENCY` while CC-FS asks to slow down.",
            lambda: self.read().concurrency_limit,
        )
        gauges(
            "ccfs_worker_intake_paused",
            "1 while no new jobs are taken for that reason.",
            ("reason",),
            lambda: _flags(self.read().paused),
        )
        gauges(
            "ccfs_worker_check_ok",
            "1 while that check of `/readyz` passes.",
            ("check",),
            lambda: _flags(self.read().checks),
        )
        gauge(
            "ccfs_worker_storage_free_bytes",
            "Free bytes on the storage volume; NaN when unknown.",
            lambda: self.read().free_bytes,
        )
        gauge(
            "ccfs_worker_storage_reserved_bytes",
            "Bytes that are to stay free there (`WORKER_STORAGE__MIN_FREE_BYTES`); below, intake pauses.",
            lambda: self.read().reserved_bytes,
        )
        gauge(
            "ccfs_worker_storage_silent_seconds",
            "How long the call that has waited longest for the storage volume has waited; 0 without any.",
            lambda: self.read().storage_silence,
        )
        gauge(
            "ccfs_worker_storage_threads_left_behind",
            "Threads that hold a call to the volume whose job was given up meanwhile.",
            lambda: self.read().left_behind,
        )
        gauges(
            "ccfs_worker_build_info",
            "Always 1; tells what runs.",
            ("version", "python"),
            lambda: {(version, platform.python_version()): 1},
        )


def _flags(values: Mapping[str, bool]) -> Mapping[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in values.items()}
