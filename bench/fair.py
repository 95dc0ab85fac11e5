"""Measure what a backlog of one account costs another: `python -m bench.fair`, or `make bench-fair`.

One account's single jobs are timed from their publication to their outcome: alone, beside a backlog of 10,000
jobs of another account, while CC-FS refuses that other account everything, and while it refuses its key, so
that its jobs are held. CC-FS takes half a second for each answer, so that what is measured is the waiting
and not the machine.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.table import Table

from devkit.run.rabbitmq import PrivateRabbitMQ
from tests.installation import Site, bill, collecting
from worker.broker import Names
from worker.simulator import Fault, Range, SimulatorOptions, open_simulator
from worker.simulator.faults import ResultCode, StatusCode

BUSY, QUIET = "busy", "quiet"
BACKLOG = 10_000
LATENCY = 0.5
INTERVAL = 20
SETTINGS = {
    "CONCURRENCY": "16",
    "CONCURRENCY_PER_APP": "4",
    "RETRY__DELAYS": "[10, 60, 300, 900]",
    # Held jobs come back after 20 to 100 s: three times as often as by default.
    "ACCOUNTS__PROBE_INTERVAL": f"{INTERVAL}",
    "LOG__LEVEL": "INFO",
}


@dataclass(frozen=True)
class Timing:
    """How long the quiet account's jobs took, in seconds.

    Attributes:
        first: The first one, published right behind the backlog.
        rest: The others, one after another.
    """

    first: float
    rest: tuple[float, ...]

    @property
    def p50(self) -> float:
        """Half of them took no longer."""
        return quantiles(self.rest, n=20)[9]

    @property
    def p95(self) -> float:
        """95% of them took no longer."""
        return quantiles(self.rest, n=20)[18]


async def nothing(_: Site) -> None:
    """The quiet account is alone."""


async def backlog(site: Site) -> None:
    """The busy account has a long queue, which CC-FS serves."""
    await site.publish(*(bill(number) for number in range(BACKLOG)), app_id=BUSY)


async def storm(site: Site) -> None:
    """The busy account has a long queue, and CC-FS refuses all of it."""
    _answer(site, ResultCode(code="0300008"))
    await backlog(site)


async def held(site: Site) -> None:
    """The busy account has a long queue, and CC-FS refuses its key."""
    _answer(site, StatusCode(status=401))
    await backlog(site)


def _answer(site: Site, fault: Fault) -> None:
    """Have CC-FS answer the busy account so."""
    site.simulator.plan = lambda request: fault if request.app_id == BUSY else None


Beside = Callable[[Site], Awaitable[None]]
SITUATIONS: dict[str, Beside] = {
    "alone": nothing,
    f"beside {BACKLOG:,} jobs of another account": backlog,
    "beside as many that CC-FS refuses (0300008)": storm,
    "beside as many that are held (401)": held,
}


async def measure(beside: Beside, jobs: int) -> Timing:
    """Time the quiet account's jobs in one situation."""
    async with _site() as site:
        await beside(site)
        first = await _timed(site, 0)
        if beside is held:
            # Before that, none of the held jobs comes back.
            await asyncio.sleep(INTERVAL)
        return Timing(first, tuple([await _timed(site, number) for number in range(1, jobs + 1)]))


async def _timed(site: Site, number: int) -> float:
    started = time.monotonic()
    (job_id,) = await site.publish(bill(number), app_id=QUIET)
    await site.until(lambda: job_id in site.ledger.outcomes)
    return time.monotonic() - started


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="fair-") as name, ExitStack() as stack:
        folder = Path(name)
        keys, root = folder / "keys", folder / "files"
        for directory in (keys, root):
            directory.mkdir()
        for account in (BUSY, QUIET):
            (keys / account).write_text("secret")
        node = stack.enter_context(PrivateRabbitMQ())
        options = SimulatorOptions(keys=keys, state=folder, latency=Range(LATENCY, LATENCY), history=1)
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
            worker = stack.enter_context(site.worker(**SETTINGS))
            await worker.readiness()
            async with collecting(site):
                yield site


def show(timings: dict[str, Timing]) -> None:
    """Print a table, each situation also as a ratio to the quiet account alone."""
    alone = timings["alone"]
    table = Table("the quiet account", "first job", "p50", "p95", "p95 ÷ alone")
    for situation, timing in timings.items():
        table.add_row(
            situation,
            f"{timing.first:.2f} s",
            f"{timing.p50:.2f} s",
            f"{timing.p95:.2f} s",
            f"{timing.p95 / alone.p95:.2f}",
        )
    Console().print(table)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.fair", description=__doc__)
    parser.add_argument("--jobs", type=int, default=40, help="jobs timed in each situation (default: 40)")
    jobs = parser.parse_args().jobs
    show({situation: asyncio.run(measure(beside, jobs)) for situation, beside in SITUATIONS.items()})


if __name__ == "__main__":
    main()
