"""What Prometheus scrapes. Labels are bounded: no appId, file name or job id among them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from worker.intake import Ending

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_JOB_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """The worker's figures; implements `worker.intake.Observer`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._jobs = Counter(
            "ccfs_worker_jobs",
            "Deliveries that ended, by ending and by the error code of the attempt if it failed.",
            ["ending", "code"],
            registry=self._registry,
        )
        self._in_flight = Gauge("ccfs_worker_jobs_in_flight", "Deliveries in hand.", registry=self._registry)
        self._job_seconds = Histogram(
            "ccfs_worker_job_duration_seconds",
            "From a delivery's arrival to its settlement, by ending.",
            ["ending"],
            buckets=_JOB_BUCKETS,
            registry=self._registry,
        )
        self._bytes = Counter(
            "ccfs_worker_downloaded_bytes", "Bytes of files downloaded and stored.", registry=self._registry
        )
        self._download_seconds = Histogram(
            "ccfs_worker_download_duration_seconds",
            "From the request to CC-FS to the durable file.",
            buckets=_JOB_BUCKETS,
            registry=self._registry,
        )
        self._retries = Counter(
            "ccfs_worker_retries",
            "Jobs sent to wait for another attempt, by code.",
            ["code"],
            registry=self._registry,
        )
        self._sessions = Counter(
            "ccfs_worker_broker_sessions", "Sessions opened with RabbitMQ.", registry=self._registry
        )

    def job_started(self) -> None:
        """Count a delivery in."""
        self._in_flight.inc()

    def job_ended(self, ending: Ending, code: str, seconds: float) -> None:
        """Count a delivery out."""
        self._in_flight.dec()
        self._jobs.labels(ending, code).inc()
        self._job_seconds.labels(ending).observe(seconds)
        if ending is Ending.RETRIED:
            self._retries.labels(code).inc()

    def downloaded(self, size_bytes: int, seconds: float) -> None:
        """Count a file."""
        self._bytes.inc(size_bytes)
        self._download_seconds.observe(seconds)

    def session_opened(self) -> None:
        """Count a session with the broker; more than one means that connections were lost."""
        self._sessions.inc()

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when scraped."""
        Gauge(name, documentation, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)
