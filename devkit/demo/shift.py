"""Run workers for a few minutes of trouble, to see what it looks like on the dashboard.

Two workers, a broker and CC-FS; for a while CC-FS asks to slow down, and for a while it answers nothing.
"""

import asyncio
import json
import random
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aio_pika

from devkit.run.broker import open_broker
from devkit.run.prometheus import PrivatePrometheus
from devkit.run.queues import declared
from devkit.run.worker_process import WorkerProcess
from worker.broker import Names, Topology
from worker.simulator import Fault, Range, ReceivedRequest, Simulator, SimulatorOptions, open_simulator
from worker.simulator.faults import ResultCode, StatusCode

_ACCOUNTS = ("sales", "support")
_DELAYS = (2.0, 5.0, 10.0)
_DELIVERY_LIMIT = 20
_JOBS_PER_SECOND = 40
_MISSING = 0.02
_UNREADABLE = 0.002
_CALM, _SLOW_DOWN, _SILENCE = 60.0, 30.0, 25.0
"""Seconds of each kind of phase."""


@dataclass(frozen=True)
class Shift:
    """What was recorded, for queries.

    Attributes:
        prometheus: Has scraped the workers every second.
        began: Unix seconds.
        ended: Unix seconds.
    """

    prometheus: PrivatePrometheus
    began: float
    ended: float


@asynccontextmanager
async def worked(look: Callable[[Sequence[int]], Awaitable[None]]) -> AsyncIterator[Shift]:
    """Run a shift; yield once it is over, while Prometheus still answers.

    Args:
        look: Is called with the workers' HTTP ports when CC-FS has been silent for a while.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ccfs-shift-")))
        broker = stack.enter_context(open_broker())
        topology = _topology("ccfs" if broker.node else f"ccfs.shift.{secrets.token_hex(4)}")
        await stack.enter_async_context(declared(broker.url, topology))
        simulator = await stack.enter_async_context(_ccfs(folder))
        settings = _settings(folder, broker.url, topology.names, simulator)
        workers = [
            stack.enter_context(WorkerProcess(settings, log_file=folder / f"worker{number}.log"))
            for number in range(2)
        ]
        ports = [(await worker.logged("worker.started"))["http_port"] for worker in workers]
        prometheus = stack.enter_context(PrivatePrometheus([f"127.0.0.1:{port}" for port in ports]))
        began = time.time()
        async with _publishing(broker.url, topology.names.jobs):
            await _troubles(simulator, partial(look, ports))
        yield Shift(prometheus, began, time.time())


async def _troubles(simulator: Simulator, look: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(_CALM)
    calm, simulator.plan = simulator.plan, _slow_down
    await asyncio.sleep(_SLOW_DOWN)
    simulator.plan = calm
    await asyncio.sleep(_CALM)
    await simulator.stop()
    await asyncio.sleep(_SILENCE)
    await look()
    await simulator.start()
    await asyncio.sleep(_CALM)


def _slow_down(_: ReceivedRequest) -> Fault | None:
    return random.choice((None, StatusCode(status=429), ResultCode(code="0300008")))


@asynccontextmanager
async def _ccfs(folder: Path) -> AsyncIterator[Simulator]:
    keys = folder / "keys"
    keys.mkdir()
    for account in _ACCOUNTS:
        (keys / account).write_text(secrets.token_hex(16))
    sizes = (Range(16 * 1024, 256 * 1024, weight=9), Range(256 * 1024, 8 * 1024**2))
    options = SimulatorOptions(
        keys=keys,
        state=folder / "simulator",
        sizes=sizes,
        latency=Range(0.02, 0.2),
        missing=("*-gone.zip",),
        history=0,
    )
    async with open_simulator(options) as simulator:
        yield simulator


def _topology(prefix: str) -> Topology:
    names = Names(
        jobs=f"{prefix}.jobs",
        results=f"{prefix}.results",
        results_queue=f"{prefix}.results",
        dead=f"{prefix}.dead",
        failed=f"{prefix}.failed",
    )
    return Topology(names=names, tiers=_DELAYS, delivery_limit=_DELIVERY_LIMIT)


def _settings(folder: Path, url: str, names: Names, simulator: Simulator) -> dict[str, str]:
    root = folder / "files"
    root.mkdir()
    return {
        "WORKER_AMQP__URL": url,
        "WORKER_AMQP__JOBS_QUEUE": names.jobs,
        "WORKER_AMQP__RESULTS_EXCHANGE": names.results,
        "WORKER_AMQP__RESULTS_QUEUE": names.results_queue or "",
        "WORKER_AMQP__DEAD_QUEUE": names.dead,
        "WORKER_AMQP__FAILED_QUEUE": names.failed or "",
        "WORKER_AMQP__DELIVERY_LIMIT": str(_DELIVERY_LIMIT),
        "WORKER_CCFS__BASE_URL": simulator.url,
        "WORKER_CCFS__CA_FILE": str(simulator.ca_file),
        "WORKER_CREDENTIALS__DIR": str(folder / "keys"),
        "WORKER_STORAGE__ROOT": str(root),
        "WORKER_RETRY__DELAYS": json.dumps(_DELAYS),
        "WORKER_RETRY__NOT_FOUND_ATTEMPTS": "2",
    }


@asynccontextmanager
async def _publishing(url: str, queue: str) -> AsyncIterator[None]:
    """Publish jobs meanwhile, as an upstream system does."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()

        async def publish() -> None:
            while True:
                await channel.default_exchange.publish(_message(), queue)
                await asyncio.sleep(random.expovariate(_JOBS_PER_SECOND))

        task = asyncio.create_task(publish())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def _message() -> aio_pika.Message:
    return aio_pika.Message(_body(), message_id=secrets.token_hex(8), timestamp=datetime.now(UTC))


def _body() -> bytes:
    if random.random() < _UNREADABLE:
        return b"Please fetch everything."
    gone = "-gone" if random.random() < _MISSING else ""
    name = f"20260131_{secrets.token_hex(12)}{gone}.zip"
    return json.dumps({"appId": random.choice(_ACCOUNTS), "billFileName": name}).encode()
