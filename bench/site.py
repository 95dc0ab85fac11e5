"""A broker, a CC-FS and a worker with two accounts: what one of them costs the other."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import usage
from devkit.run.rabbitmq import PrivateRabbitMQ
from devkit.run.worker_process import WorkerProcess
from tests.installation import Site
from worker.broker import Names
from worker.simulator import MIN_BILL_BYTES, Fault, Range, SimulatorOptions, open_simulator

BUSY, QUIET = "busy", "quiet"

_RAM = Path("/dev/shm")  # noqa: S108 - Linux's RAM file system; a folder of our own is made in it


@dataclass(frozen=True, slots=True)
class Place:
    """Made by `open_place`.

    Attributes:
        site: The installation.
        node: Its broker.
        worker: Its worker.
    """

    site: Site
    node: PrivateRabbitMQ
    worker: WorkerProcess

    def answer(self, fault: Fault | None) -> None:
        """Have CC-FS answer the busy account so; None serves it."""
        self.site.simulator.plan = lambda request: fault if request.app_id == BUSY else None

    @property
    def used_by_broker(self) -> usage.Usage:
        """What the broker has used so far."""
        return usage.of_tree(self.node.pid)

    @property
    def used_by_worker(self) -> usage.Usage:
        """What the worker has used so far."""
        return usage.of_tree(self.worker.pid)


@asynccontextmanager
async def open_place(*, latency: float, **settings: str) -> AsyncIterator[Place]:
    """Start broker, CC-FS and worker; files go to RAM.

    Args:
        latency: Seconds that CC-FS takes for each answer.
        settings: The worker's, without prefix.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_RAM) as name, ExitStack() as stack:
        folder = Path(name)
        keys, root = folder / "keys", folder / "files"
        for directory in (keys, root):
            directory.mkdir()
        for account in (BUSY, QUIET):
            (keys / account).write_text("secret")
        node = stack.enter_context(PrivateRabbitMQ())
        options = SimulatorOptions(
            keys=keys, state=folder, latency=Range(latency), sizes=(Range(MIN_BILL_BYTES),), history=1
        )
        async with open_simulator(options) as simulator:
            site = Site(
                url=node.url,
                own_url=node.url,
                names=Names(),
                simulator=simulator,
                folder=folder,
                root=root,
                keys=keys,
            )
            worker = stack.enter_context(site.worker(**settings))
            await worker.readiness()
            yield Place(site, node, worker)
