"""Where silences are tested: an installation between proxies, with switches for what may keep silent."""

import asyncio
import fcntl
import os
import select
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from devkit.run.worker_process import WorkerProcess
from tests.faults.proxy import Proxy
from tests.installation import APP, Site, bill

GRACE = "0.5"
OTHER = "other"
"""An account that meets nothing unusual."""
_POLL = 0.02
_PATIENCE = 60.0


@dataclass
class Bench:
    """An installation between two proxies, with switches for what may keep silent.

    Attributes:
        site: The installation.
        amqp: The line to its broker.
        amqps: The same over TLS.
        amqp_ca: Who vouches for the broker there.
        ccfs: The line to its CC-FS.
        disk: The switch of `failing_disk.c`.
        resolver: The switch of `deaf_resolver.c`.
        log: Reads what the worker prints.
        running: The worker.
    """

    site: Site
    amqp: Proxy
    amqps: Proxy
    amqp_ca: Path
    ccfs: Proxy
    disk: Path
    resolver: Path
    log: "Reader"
    running: WorkerProcess = field(init=False)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def worker(self, settings: Mapping[str, str], variables: Mapping[str, str]) -> WorkerProcess:
        """A worker with short bounds and these settings; `running` from now on, not yet started."""
        short = {
            "AMQP__CONNECT_TIMEOUT": "0.5",
            "AMQP__PUBLISH_TIMEOUT": "0.5",
            "CCFS__BASE_URL": f"https://127.0.0.1:{self.ccfs.port}",
            "CCFS__CONNECT_TIMEOUT": "0.5",
            "CCFS__IDLE_TIMEOUT": "0.5",
            "CCFS__PAUSE_AFTER": "1",
            "CONCURRENCY": "4",
            "RETRY__DELAYS": str([0.1] * 32),
            "SHUTDOWN_GRACE": GRACE,
            "STORAGE__CHECK_INTERVAL": "0.1",
            "STORAGE__HANG_AFTER": "1",
        }
        environment = self.site.settings(**(short | dict(settings))) | dict(variables)
        self.running = WorkerProcess(environment, log_file=self.log.file, output=self.log.pipe)
        return self.running

    async def publish(self, app_id: str = APP) -> str:
        """Publish one job for a file that nobody has asked for yet."""
        (job_id,) = await self.site.publish(bill(next(self._numbers)), app_id=app_id)
        return job_id

    async def publish_for_a_stranger(self) -> str:
        """Publish one job of an account whose key nobody has read yet."""
        app_id = f"stranger{next(self._numbers)}"
        self.site.add_key(app_id, "secret")
        return await self.publish(app_id)

    async def done(self, app_id: str = APP) -> None:
        """Have one job done."""
        job_id = await self.publish(app_id)
        await self.site.until(lambda: job_id in self.site.ledger.outcomes)

    async def accounted_for(self) -> None:
        """Wait until each job has an outcome or waits in the broker."""
        names = self.site.names
        queues = (names.jobs, names.dropped, names.tier(0.1))

        async def is_so() -> bool:
            lengths = [await self.site.queue_length(queue) for queue in queues]
            return sum(lengths) >= len(self.site.ledger.open_jobs)

        await until(is_so, "jobs are neither in the broker nor done")


class Reader:
    """Reads what a worker prints, as a container runtime does, and writes it to a file.

    Attributes:
        pipe: The end for the worker.
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._end, self.pipe = os.pipe()
        fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        self.file = file
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more than what comes next, until `go_on`."""
        self._reads.clear()

    def go_on(self) -> None:
        """Read again."""
        self._reads.set()

    def close(self) -> None:
        """Read the rest; nobody may print any more."""
        os.close(self.pipe)
        self.go_on()
        self._thread.join()
        os.close(self._end)

    def _read(self) -> None:
        with self.file.open("ab", buffering=0) as file:
            while piece := os.read(self._end, select.PIPE_BUF):
                self._reads.wait()
                file.write(piece)


async def until(condition: Callable[[], Awaitable[bool]], complaint: str) -> None:
    """Ask again and again until it is so."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while not await condition():  # noqa: ASYNC110 - what happens in another process is no event here
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise AssertionError(complaint) from None
