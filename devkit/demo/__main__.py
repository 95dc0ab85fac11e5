"""Show the worker at work: `python -m devkit.demo`.

Everything is real: a RabbitMQ of its own (or the one that `AMQP` names, with queues of its own there), the
CC-FS simulator and a worker as processes of their own, jobs of two accounts with some hopeless ones among
them, and faults that are tried again. Ends with exit code 1 unless every job ended as it should and every
file is right, and leaves nothing behind.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from dotenv import dotenv_values
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from devkit.demo.ledger import Counts, Ledger
from devkit.demo.workload import ACCOUNTS, COMPLETED, MISSING, Job, make_jobs
from devkit.run.broker import ensure, open_broker
from devkit.run.leash import Leashed
from devkit.run.queues import declared
from devkit.run.worker_process import WorkerError, WorkerProcess
from schemas import DownloadCompleted, ErrorCode
from schemas.outcomes import read_outcome
from worker.broker import Names, Topology
from worker.cli.simulate import parse_sizes
from worker.cli.simulator_state import ENV_FILE
from worker.simulator import SimulatorOptions, parse_fault

_SIZES = ("8KiB-128KiB:70", "128KiB-2MiB:25", "2MiB-8MiB:5")
_SEED = 7
# All of these are tried again, and with that seed none is tried more than three times.
_FAULTS = (
    "0300008:0.03",
    "http-502:0.02",
    "http-429,retry-after=1:0.005",
    "reset:0.02",
    "reset-body:0.03",
    "short:0.02",
    "bad-crc:0.02",
)
_DELAYS = (0.2, 0.5, 1.0, 2.0)
_DELIVERY_LIMIT = 20
_PATIENCE = 120.0
_POLL = 0.05
_LOG_LINES = 10


def served(keys: Path) -> SimulatorOptions:
    """Return the options of the simulator; they determine the bytes of each file.

    Args:
        keys: The key directory.
    """
    return SimulatorOptions(
        keys=keys,
        seed=_SEED,
        sizes=tuple(map(parse_sizes, _SIZES)),
        missing=(MISSING,),
        faults=tuple(map(parse_fault, _FAULTS)),
    )


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass(frozen=True)
class Stage:
    """Where a demo takes place.

    Attributes:
        folder: For everything that it writes.
        names: Its queues and exchanges.
    """

    folder: Path
    names: Names

    @property
    def keys(self) -> Path:
        """The key directory, of worker and simulator alike."""
        return self.folder / "keys"

    @property
    def root(self) -> Path:
        """The storage root."""
        return self.folder / "files"

    @property
    def simulator_log(self) -> Path:
        """What the simulator prints."""
        return self.folder / "simulator.log"

    @property
    def topology(self) -> Topology:
        """What the worker will declare."""
        return Topology(names=self.names, tiers=_DELAYS, delivery_limit=_DELIVERY_LIMIT)


def main() -> None:
    """Run the demo that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m devkit.demo", description="Shows the worker at work.")
    parser.add_argument("--jobs", type=int, default=200, help="how many (default: %(default)s)")
    jobs = list(make_jobs(parser.parse_args().jobs))
    console = Console()
    try:
        ensure()
        sound = asyncio.run(_interruptible(_demo(console, jobs)))
    except (DemoError, WorkerError) as error:
        raise SystemExit(str(error)) from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.print("Interrupted; nothing is left running.")
        raise SystemExit(128 + signal.SIGINT) from None
    raise SystemExit(0 if sound else 1)


async def _interruptible(demo: Coroutine[Any, Any, bool]) -> bool:
    task = asyncio.create_task(demo)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        # Only once: a second Ctrl-C must not keep the first one from tidying up.
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    return await task


async def _demo(console: Console, jobs: Sequence[Job]) -> bool:
    """Run the demo; return whether all went as it should."""
    with (
        console.status("Starting CC-FS, RabbitMQ and a worker ...") as status,
        _stage() as stage,
        _simulator(stage),
        open_broker() as broker,
    ):
        async with declared(broker.url, stage.topology), _worker(stage, broker.url) as worker:
            status.stop()
            faulty = sum(fault.rate for fault in served(stage.keys).faults)
            console.print("CC-FS, RabbitMQ and a worker are up.")
            console.print(
                f"{len(jobs)} jobs of {len(ACCOUNTS)} accounts; CC-FS fails {faulty:.0%} of all requests."
            )
            started = time.monotonic()
            ledger = await _work(console, stage, broker.url, jobs, worker)
            seconds = time.monotonic() - started
        counts = await asyncio.to_thread(ledger.counts)
    return _show(console, jobs, ledger, counts, seconds)


@contextmanager
def _stage() -> Iterator[Stage]:
    """Make a folder with storage and keys, and choose names."""
    with tempfile.TemporaryDirectory(prefix="ccfs-demo-") as folder:
        # Also on a private broker, so that there is one way for both.
        prefix = f"ccfs.demo.{secrets.token_hex(4)}"
        names = Names(
            jobs=f"{prefix}.jobs",
            results=f"{prefix}.results",
            results_queue=f"{prefix}.results",
            dead=f"{prefix}.dead",
            failed=f"{prefix}.failed",
        )
        stage = Stage(Path(folder), names)
        stage.root.mkdir()
        stage.keys.mkdir()
        for account in ACCOUNTS:
            (stage.keys / account).write_text(secrets.token_hex(16))
        yield stage


@contextmanager
def _simulator(stage: Stage) -> Iterator[None]:
    options = [f"--size={size}" for size in _SIZES] + [f"--fault={fault}" for fault in _FAULTS]
    command = Path(sys.executable).with_name("ccfs-worker")
    simulator = Leashed(
        [
            str(command), "simulate", "--port=0", f"--state={stage.folder}", f"--keys={stage.keys}",
            f"--seed={_SEED}", f"--missing={MISSING}", *options,
        ],
        env=os.environ,
        output=stage.simulator_log,
    )  # fmt: skip
    try:
        yield
    finally:
        simulator.kill()


@asynccontextmanager
async def _worker(stage: Stage, broker_url: str) -> AsyncIterator[WorkerProcess]:
    """Run a worker, and have it drain in the end."""
    settings = {
        **await _simulator_settings(stage),
        "WORKER_AMQP__URL": broker_url,
        "WORKER_AMQP__JOBS_QUEUE": stage.names.jobs,
        "WORKER_AMQP__RESULTS_EXCHANGE": stage.names.results,
        "WORKER_AMQP__RESULTS_QUEUE": stage.names.results_queue or "",
        "WORKER_AMQP__DEAD_QUEUE": stage.names.dead,
        "WORKER_AMQP__FAILED_QUEUE": stage.names.failed or "",
        "WORKER_AMQP__DELIVERY_LIMIT": str(stage.topology.delivery_limit),
        "WORKER_RETRY__DELAYS": json.dumps(stage.topology.tiers),
        "WORKER_RETRY__NOT_FOUND_ATTEMPTS": "2",
        "WORKER_STORAGE__ROOT": str(stage.root),
        "WORKER_STORAGE__MIN_FREE_BYTES": "0",
    }
    with WorkerProcess(settings, log_file=stage.folder / "worker.log") as worker:
        await worker.readiness()
        yield worker
        worker.signal(signal.SIGTERM)
        if code := await worker.exited():
            log = worker.log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise DemoError("\n".join([f"The worker ended with exit code {code}; its log ends so:", *log]))


async def _simulator_settings(stage: Stage) -> dict[str, str]:
    """Wait until the simulator has written its settings for a worker."""
    file = stage.folder / ENV_FILE
    deadline = time.monotonic() + _PATIENCE
    while not file.exists():
        if time.monotonic() > deadline:
            raise DemoError(f"The simulator did not start:\n{stage.simulator_log.read_text()}")
        await asyncio.sleep(_POLL)
    return {name: value for name, value in dotenv_values(file).items() if value is not None}


async def _work(
    console: Console, stage: Stage, broker_url: str, jobs: Sequence[Job], worker: WorkerProcess
) -> Ledger:
    """Publish the jobs and take their outcomes, as upstream and consumers do; return what became of them."""
    ledger = Ledger(stage.root, served(stage.keys).digest)
    all_settled = asyncio.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with await aio_pika.connect(broker_url) as connection:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("jobs with an outcome", total=len(jobs))

            async def settle(message: AbstractIncomingMessage) -> None:
                ledger.settle(read_outcome(message.body))
                await message.ack()
                progress.update(bar, completed=len(ledger.outcomes))
                if len(ledger.outcomes) >= len(jobs):
                    all_settled.set()

            channel = await connection.channel(on_return_raises=True)
            await (await channel.get_queue(stage.names.results_queue or "")).consume(settle)
            await asyncio.gather(*(_publish(channel, stage.names.jobs, job, ledger) for job in jobs))
            await _first(all_settled.wait(), worker.exited(_PATIENCE))
    return ledger


async def _publish(channel: AbstractChannel, queue: str, job: Job, ledger: Ledger) -> None:
    message = aio_pika.Message(job.body, message_id=job.job_id, delivery_mode=DeliveryMode.PERSISTENT)
    await channel.default_exchange.publish(message, queue)
    ledger.publish(job.job_id)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of several, until patience ends; cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=_PATIENCE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _show(console: Console, jobs: Sequence[Job], ledger: Ledger, counts: Counts, seconds: float) -> bool:
    """Print what became of the jobs. Return whether all of it was expected."""
    expected = Counter(job.expected for job in jobs)
    ended = Counter(code or COMPLETED for code in ledger.codes.values())
    table = Table("outcome", Column("jobs", justify="right"), Column("expected", justify="right"), "meaning")
    for outcome in sorted(expected | ended, key=lambda name: (name != COMPLETED, name)):
        style = "green" if ended[outcome] == expected[outcome] else "bold red"
        table.add_row(outcome, f"[{style}]{ended[outcome]}", str(expected[outcome]), _meaning(outcome))
    console.print(table)

    events = [event for events in ledger.outcomes.values() for event in events]
    files = {event.path: event.size_bytes for event in events if isinstance(event, DownloadCompleted)}
    again = sum(event.attempts > 1 for event in events)
    console.print(f"{len(jobs)} jobs in {seconds:.1f} s, {again} of them at the second attempt or later.")
    wrong = counts.unexpected or counts.partial
    verdict = "[bold red]not all the same as at CC-FS" if wrong else "[green]each the same as at CC-FS"
    console.print(f"{len(files)} files of {decimal(sum(files.values()))} on disk, {verdict} by SHA-256.")
    console.print(
        f"lost {counts.lost}, duplicated {counts.duplicated}, unexpected {counts.unexpected}, "
        f"partial {counts.partial}"
    )
    return counts.sound and ended == expected


def _meaning(outcome: str) -> str:
    return "The file is there, whole and checked." if outcome == COMPLETED else ErrorCode[outcome].meaning


if __name__ == "__main__":
    main()
