"""Two workers, an upstream, CC-FS and a cluster, to try faults of the cluster with."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice, pairwise

from devkit.demo.ledger import Counts
from devkit.run.worker_process import WorkerProcess
from tests.cluster.balancer import Balancer
from tests.cluster.cluster import Cluster
from tests.cluster.rows import Row
from tests.installation import Site, bill

BOUND = 240.0
"""Seconds within which every job has its outcome and every worker is ready, once the fault is over."""
BEFORE = 30
"""Outcomes before the fault begins."""
_BACKLOG, _AT_LEAST, _BATCH, _PAUSE = 120, 200, 5, 1.0
_SAME_FILE_EACH = 25
_SETTINGS = {
    "AMQP__DELIVERY_LIMIT": "20",
    "AMQP__HEARTBEAT": "4",
    "LOG__LEVEL": "INFO",
}


@dataclass
class Lab:
    """An installation on a cluster.

    Attributes:
        cluster: Its RabbitMQ.
        balancer: What stands between it and the workers.
        site: Everything else.
        report: Called with what came of each fault.
    """

    cluster: Cluster
    balancer: Balancer
    site: Site
    report: Callable[[Row], None]
    _jobs: Iterator[tuple[str, bytes]] = field(init=False)
    _began: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._jobs = ((f"job-{number:04d}", self._body(number)) for number in count())

    @asynccontextmanager
    async def fault(self, name: str, **settings: str) -> AsyncIterator[None]:
        """Publish jobs before, during and after what the caller does, and see that no promise was broken.

        Args:
            name: What the caller does.
            settings: Further settings of the workers, without prefix.
        """
        with self.working(**settings) as workers:
            async with self._publishing(workers):
                self.begin()
                yield
            counts = await self.site.settled(BOUND)
            for worker in workers:
                await worker.readiness(patience=BOUND)
            counts = await self.finish(workers)
            self.tell(name, counts, workers)
        assert counts.sound
        assert counts.failed == 0
        self.cluster.fit = True

    @contextmanager
    def working(self, **settings: str) -> Iterator[list[WorkerProcess]]:
        """Have two workers."""
        with ExitStack() as stack:
            made = (self.site.worker(f"worker{number}", **(_SETTINGS | settings)) for number in (1, 2))
            yield [stack.enter_context(worker) for worker in made]

    def jobs(self, number: int) -> list[tuple[str, bytes]]:
        """Make jobs that were not there before: ids and bodies."""
        return list(islice(self._jobs, number))

    async def outcomes(self, number: int) -> None:
        """Wait for so many further outcomes."""
        wanted = len(self.site.ledger.outcomes) + number
        await self.site.until(lambda: len(self.site.ledger.outcomes) >= wanted, BOUND)

    def begin(self) -> None:
        """Note that the fault begins."""
        self._began = datetime.now(UTC)

    async def finish(self, workers: list[WorkerProcess]) -> Counts:
        """End the workers, take what they have published, and count."""
        for worker in workers:
            worker.signal(signal.SIGTERM)
        for worker in workers:
            assert await worker.exited() == 0
        await self._results_taken()
        return await asyncio.to_thread(self.site.ledger.counts)

    async def _results_taken(self) -> None:
        deadline = asyncio.get_running_loop().time() + BOUND
        while await self.site.queue_length(self.site.names.results_queue or ""):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(_PAUSE)

    def tell(self, name: str, counts: Counts, workers: list[WorkerProcess]) -> None:
        """Report what came of a fault."""
        row = Row(
            fault=name,
            jobs=counts.published,
            lost=counts.lost,
            duplicated=counts.duplicated,
            unexpected=counts.unexpected,
            partial=counts.partial,
            gap=self._longest_gap(workers),
        )
        self.report(row)

    @asynccontextmanager
    async def _publishing(self, workers: list[WorkerProcess]) -> AsyncIterator[None]:
        for worker in workers:
            await worker.readiness(patience=BOUND)
        await self.site.publish_raw(self.jobs(_BACKLOG))
        over = asyncio.Event()
        steady = asyncio.create_task(self._publish_until(over))
        try:
            await self.outcomes(BEFORE)
            yield
            over.set()
            await steady
        finally:
            steady.cancel()

    async def _publish_until(self, over: asyncio.Event) -> None:
        published = _BACKLOG
        while not over.is_set():
            await self.site.publish_raw(self.jobs(_BATCH))
            published += _BATCH
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _PAUSE)
        await self.site.publish_raw(self.jobs(max(_BATCH, _AT_LEAST - published)))

    def _body(self, number: int) -> bytes:
        # Now and then two jobs are for the same file.
        return self.site.body(bill(number - 1 if number % _SAME_FILE_EACH == 1 else number))

    def _longest_gap(self, workers: list[WorkerProcess]) -> float:
        settled = (
            datetime.fromisoformat(line["timestamp"])
            for worker in workers
            for line in worker.lines()
            if line["event"] == "job.settled"
        )
        times = sorted([self._began, *(time for time in settled if time > self._began)])
        return max(((after - before).total_seconds() for before, after in pairwise(times)), default=0.0)
