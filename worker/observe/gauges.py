"""The gauges: their values are read when Prometheus scrapes, and not kept in between."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.storage import Space

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric as the documents name it.

    Attributes:
        name: As it is scraped; without a histogram's `_bucket`, `_sum` and `_count`.
        kind: `counter`, `gauge` or `histogram`.
        documentation: Its help text.
        labels: The names of its labels.
    """

    name: str
    kind: str
    documentation: str
    labels: Labels = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The state of the worker at a scrape.

    Attributes:
        in_flight: Deliveries in hand.
        downloads: Downloads under way.
        concurrency_limit: Downloads that may run concurrently now.
        paused: By reason, whether intake is paused for it.
        checks: By name, whether that check of `/readyz` passes.
        oldest_job: Seconds for which the oldest delivery has been in hand; 0 without any.
        queue_messages: By queue, the messages that wait in it; empty without a recent answer of RabbitMQ.
        queue_members: By queue, how many members it has and how many of them run; empty without a recent
            answer of the management API.
        certificate_end: When CC-FS's certificate expires, in Unix seconds; NaN when unknown.
        space: What the storage volume has; NaN when unknown.
        reserved_bytes: Bytes that are to stay free there.
        storage_silence: Age in seconds of the oldest call to that volume that has not returned.
        hung_threads: Threads whose call to it has not returned although its job was given up.
        held: For each account that is held, how many of its jobs wait, and for how many seconds it has been.
    """

    in_flight: int = 0
    downloads: int = 0
    concurrency_limit: int = 0
    paused: Mapping[str, bool] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)
    oldest_job: float = 0.0
    queue_messages: Mapping[str, int] = field(default_factory=dict)
    queue_members: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    certificate_end: float = math.nan
    space: Space = field(default_factory=Space)
    reserved_bytes: float = math.nan
    storage_silence: float = 0.0
    hung_threads: int = 0
    held: Sequence[tuple[int, float]] = ()


class Gauges(Collector):
    """The gauges, all from one reading, so that a scrape shows one moment.

    Args:
        read: Gives the readings; cheap and without I/O, since it runs on the event loop.
    """

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as they stand now."""
        readings = self._read()
        for entry, values in _GAUGES:
            family = GaugeMetricFamily(entry.name, entry.documentation, labels=entry.labels)
            for labels, value in values(readings).items():
                family.add_metric(labels, value)
            yield family


def _flags(values: Mapping[str, bool]) -> Mapping[Labels, float]:
    return {(name,): float(value) for name, value in values.items()}


_GAUGES: tuple[tuple[Entry, Callable[[Readings], Mapping[Labels, float]]], ...] = (
    (
        Entry("ccfs_worker_jobs_in_flight", "gauge", "Deliveries in hand."),
        lambda now: {(): now.in_flight},
    ),
    (
        Entry(
            "ccfs_worker_oldest_job_seconds",
            "gauge",
            "How long the oldest delivery has been in hand; 0 without any.",
        ),
        lambda now: {(): now.oldest_job},
    ),
    (
        Entry(
            "ccfs_worker_queue_messages",
            "gauge",
            "Messages ready in RabbitMQ; every worker reports the same: take the maximum, not the sum.",
            ("queue",),
        ),
        lambda now: {(name,): count for name, count in now.queue_messages.items()},
    ),
    (
        Entry(
            "ccfs_worker_queue_members",
            "gauge",
            "Members of the queue, declared and online, with `WORKER_AMQP__MANAGEMENT_URL`; every worker "
            "reports the same: take the maximum, not the sum.",
            ("queue", "state"),
        ),
        lambda now: {
            (name, state): count
            for name, counts in now.queue_members.items()
            for state, count in zip(("declared", "online"), counts, strict=True)
        },
    ),
    (
        Entry(
            "ccfs_worker_ccfs_certificate_end_seconds",
            "gauge",
            "When the certificate that CC-FS showed last expires, in Unix seconds; NaN before any.",
        ),
        lambda now: {(): now.certificate_end},
    ),
    (
        Entry("ccfs_worker_downloads_in_flight", "gauge", "Downloads under way or waiting for their place."),
        lambda now: {(): now.downloads},
    ),
    (
        Entry(
            "ccfs_worker_concurrency_limit",
            "gauge",
            "Concurrent downloads allowed now; below `WORKER_CONCURRENCY` while CC-FS asks to slow down.",
        ),
        lambda now: {(): now.concurrency_limit},
    ),
    (
        Entry(
            "ccfs_worker_intake_paused",
            "gauge",
            "1 while no new jobs are taken for that reason.",
            ("reason",),
        ),
        lambda now: _flags(now.paused),
    ),
    (
        Entry("ccfs_worker_check_ok", "gauge", "1 while that check of `/readyz` passes.", ("check",)),
        lambda now: _flags(now.checks),
    ),
    (
        Entry(
            "ccfs_worker_storage_free_bytes", "gauge", "Free bytes on the storage volume; NaN when unknown."
        ),
        lambda now: {(): now.space.free_bytes},
    ),
    (
        Entry("ccfs_worker_storage_size_bytes", "gauge", "Size of the storage volume; NaN when unknown."),
        lambda now: {(): now.space.size_bytes},
    ),
    (
        Entry(
            "ccfs_worker_storage_free_inodes",
            "gauge",
            "Files and directories that can still be made on the storage volume; NaN when unknown.",
        ),
        lambda now: {(): now.space.free_inodes},
    ),
    (
        Entry(
            "ccfs_worker_storage_inodes",
            "gauge",
            "Files and directories that the storage volume can hold; NaN when unknown, or without a limit.",
        ),
        lambda now: {(): now.space.inodes},
    ),
    (
        Entry(
            "ccfs_worker_storage_reserved_bytes",
            "gauge",
            "Bytes that are to stay free there (`WORKER_STORAGE__MIN_FREE_BYTES`); below, intake pauses.",
        ),
        lambda now: {(): now.reserved_bytes},
    ),
    (
        Entry(
            "ccfs_worker_storage_silent_seconds",
            "gauge",
            "Age of the oldest call to the storage volume that has not returned; 0 without any.",
        ),
        lambda now: {(): now.storage_silence},
    ),
    (
        Entry(
            "ccfs_worker_storage_threads_left_behind",
            "gauge",
            "Threads whose call to the volume has not returned although its job was given up.",
        ),
        lambda now: {(): now.hung_threads},
    ),
    (
        Entry(
            "ccfs_worker_accounts_held",
            "gauge",
            "Accounts whose jobs wait, since CC-FS refuses their key or it is gone.",
        ),
        lambda now: {(): len(now.held)},
    ),
    (
        Entry(
            "ccfs_worker_accounts_held_seconds",
            "gauge",
            "For how long the account has been held that was held first; 0 without any.",
        ),
        lambda now: {(): max((seconds for _, seconds in now.held), default=0.0)},
    ),
    (
        Entry(
            "ccfs_worker_jobs_held",
            "gauge",
            "About how many jobs of held accounts this worker has put to wait in RabbitMQ.",
        ),
        lambda now: {(): sum(waiting for waiting, _ in now.held)},
    ),
)
GAUGES = tuple(entry for entry, _ in _GAUGES)
"""Every gauge, for the documents."""
