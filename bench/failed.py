"""Measure the commands on a full queue of failed jobs: `python -m bench.failed`, or `make bench-failed`.

100,000 failed jobs lie in it. While a command walks through them, messages go around in another queue of
the same broker, one after the other: that shows what the command costs others. The first row is the broker
without any command.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles

import aio_pika
from aio_pika.abc import AbstractChannel

from bench import report, usage
from bench.payload import MIB
from bench.results import Table, shown
from bench.sample import Figures
from devkit.run.queues import declared
from devkit.run.rabbitmq import PrivateRabbitMQ
from worker.broker import Names, Topology

COMMAND = str(Path(sys.executable).with_name("ccfs-worker"))
CODES = "UNAUTHORIZED", "FILE_NOT_FOUND", "REQUEST_REJECTED", "UPSTREAM_ERROR"
ACCOUNTS = 20
BATCH = 1000
_POLL = 0.05
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("failed", "list", "--limit", "10"),
    ("failed", "list", "-o", "json", "--limit", "{count}"),
    ("failed", "show", "m{last}"),
    ("failed", "retry", "--all", "--dry-run"),
    ("failed", "retry", "--code", "UNAUTHORIZED"),
    ("failed", "forget", "--code", "FILE_NOT_FOUND", "--yes"),
    ("failed", "retry", "--all"),
)
"""In this order: each leaves fewer to the next."""


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        seconds: From its start to its end.
        peak_bytes: The most memory that it had.
        processor_seconds: CPU time of its own.
        around: Seconds for each message that went around meanwhile.
    """

    seconds: float
    peak_bytes: int
    processor_seconds: float
    around: tuple[float, ...]

    @property
    def figures(self) -> Figures:
        """As the report shows it."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.processor_seconds,
            "peak_mib": self.peak_bytes / MIB,
            "around_p95_ms": quantiles(self.around, n=20)[18] * 1000,
        }


def failure(number: int) -> bytes:
    """A failed job as workers keep it."""
    app_id, name = f"app{number % ACCOUNTS}", f"20260131_{number:08d}.zip"
    when = "2026-01-31T08:15:00.000Z"
    fields = {
        "status": "failed",
        "jobId": f"m{number}",
        "appId": app_id,
        "billFileName": name,
        "errorCode": CODES[number % len(CODES)],
        "errorMessage": "CC-FS answered HTTP 401; see the runbook",
        "resultCode": None,
        "httpStatus": 401,
        "attempts": 1,
        "startedAt": when,
        "finishedAt": when,
        "worker": "worker-0",
        "job": json.dumps({"appId": app_id, "billFileName": name}),
    }
    return json.dumps(fields).encode()


async def fill(channel: AbstractChannel, queue: str, count: int) -> None:
    """Put failed jobs into the queue, each confirmed."""
    for first in range(0, count, BATCH):
        publishing = (
            channel.default_exchange.publish(
                aio_pika.Message(failure(number), message_id=str(uuid.uuid4()), delivery_mode=2), queue
            )
            for number in range(first, min(first + BATCH, count))
        )
        await asyncio.gather(*publishing)


async def go_around(channel: AbstractChannel, until: Callable[[], bool]) -> tuple[float, ...]:
    """Publish a message and get it, again and again; gives how long each took."""
    queue = await channel.declare_queue("around", durable=True, arguments={"x-queue-type": "quorum"})
    times: list[float] = []
    while not until():
        started = time.perf_counter()
        await channel.default_exchange.publish(aio_pika.Message(b"", delivery_mode=2), queue.name)
        await queue.get(no_ack=True)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.01)
    return tuple(times)


async def measure(channel: AbstractChannel, run: Callable[[], Awaitable[tuple[int, float]]]) -> Cost:
    """Run something beside messages that go around."""
    started = time.monotonic()
    running = asyncio.ensure_future(run())
    around = await go_around(channel, running.done)
    peak, processor = await running
    return Cost(time.monotonic() - started, peak, processor, around)


async def nothing() -> tuple[int, float]:
    """Run no command."""
    await asyncio.sleep(5)
    return 0, 0.0


def command(url: str, folder: Path, *words: str) -> tuple[int, float]:
    """Run a command to its end; gives its memory's peak in bytes, and its CPU time."""
    # No storage root: files are not looked at.
    environment = {**os.environ, "WORKER_AMQP__URL": url, "WORKER_STORAGE__ROOT": ""}
    with (folder / "output").open("ab") as output:
        process = os.posix_spawn(
            COMMAND,
            [COMMAND, *words],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
        )
        peak = 0
        # Not ru_maxrss, which begins with the memory of the process that spawned it.
        while (ended := os.wait4(process, os.WNOHANG))[0] == 0:
            peak = max(peak, usage.of_tree(process).peak_bytes)
            time.sleep(_POLL)
        _, status, used = ended
    if status:
        said = (folder / "output").read_text().splitlines()[-1]
        raise RuntimeError(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}: {said}")
    return peak, used.ru_utime + used.ru_stime


async def costs(count: int) -> Table:
    """Measure each command."""
    names = Names()
    table = Table(f"The commands on {count:,} failed jobs", "seconds", "make bench-failed ARGS=--record")

    def add(what: str, cost: Cost) -> None:
        table.add(what, cost.figures)
        print(f"{what}: {shown(cost.figures)}", flush=True)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failed-")))
        url = stack.enter_context(PrivateRabbitMQ()).url
        async with (
            declared(url, Topology(names=names, tiers=(60,), delivery_limit=5)),
            await aio_pika.connect(url) as connection,
        ):
            channel = await connection.channel()
            await fill(channel, names.failed or "", count)
            add("no command", await measure(channel, nothing))
            for words in COMMANDS:
                given = [word.format(count=count, last=count - 1) for word in words]
                run = partial(asyncio.to_thread, command, url, folder, *given)
                add(" ".join(given), await measure(channel, run))
                print((folder / "output").read_text().splitlines()[-1], file=sys.stderr)
        return table


def main() -> None:
    """Measure with as many failed jobs as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.failed", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="failed jobs (default: 100,000)")
    parser.add_argument("--record", action="store_true", help="add the figures to the report")
    arguments = parser.parse_args()
    measured = asyncio.run(costs(arguments.count))
    if arguments.record:
        report.add({"failed": measured})


if __name__ == "__main__":
    main()
