"""Measure what a backlog of one account costs another: `python -m bench.fair`, or `make bench-fair`.

One account's jobs are timed from their publication to their outcome, single ones and a burst: alone, beside
a backlog of 10,000 jobs of another account, while CC-FS refuses that other account everything, and while it
refuses its key, so that its jobs are held. CC-FS takes half a second for each answer, so that what is
measured is the waiting and not the machine. What it costs the broker and the worker is beside it.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles

from bench import report
from bench.payload import MIB
from bench.results import Table, shown
from bench.sample import Figures
from bench.site import BUSY, QUIET, Place, open_place
from tests.installation import bill, collecting
from worker.simulator.faults import ResultCode, StatusCode

BACKLOG = 10_000
BURST = 80
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


async def nothing(_: Place) -> None:
    """The quiet account is alone."""


async def backlog(place: Place) -> None:
    """The busy account has a long queue, which CC-FS serves."""
    await place.site.publish(*(bill(number) for number in range(BACKLOG)), app_id=BUSY)


async def storm(place: Place) -> None:
    """The busy account has a long queue, and CC-FS refuses all of it."""
    place.answer(ResultCode(code="0300008"))
    await backlog(place)


async def held(place: Place) -> None:
    """The busy account has a long queue, and CC-FS refuses its key."""
    place.answer(StatusCode(status=401))
    await backlog(place)


Beside = Callable[[Place], Awaitable[None]]
SITUATIONS: dict[str, Beside] = {
    "alone": nothing,
    f"beside {BACKLOG:,} jobs of another account": backlog,
    "beside as many that CC-FS refuses (0300008)": storm,
    "beside as many that are held (401)": held,
}


async def measure(beside: Beside, jobs: int) -> Figures:
    """Time the quiet account's jobs in one situation."""
    async with open_place(latency=LATENCY, **SETTINGS) as place, collecting(place.site):
        await beside(place)
        first = await _timed(place, 0, 1)
        if beside is held:
            # Before that, none of the held jobs comes back.
            await asyncio.sleep(INTERVAL)
        broker, worker, started = place.used_by_broker, place.used_by_worker, time.monotonic()
        spans = [await _timed(place, number, 1) for number in range(1, jobs + 1)]
        burst = await _timed(place, jobs + 1, BURST)
        seconds, used = time.monotonic() - started, place.used_by_broker
        return {
            "first_s": first,
            "p50_s": quantiles(spans, n=20)[9],
            "p95_s": quantiles(spans, n=20)[18],
            "jobs_per_second": BURST / burst,
            "worker_cores": (place.used_by_worker.cpu_seconds - worker.cpu_seconds) / seconds,
            "broker_cores": (used.cpu_seconds - broker.cpu_seconds) / seconds,
            "broker_mib": used.resident_bytes / MIB,
        }


async def _timed(place: Place, number: int, count: int) -> float:
    """Seconds until that many jobs of the quiet account have their outcomes."""
    started = time.monotonic()
    names = (bill(each) for each in range(number, number + count))
    wanted = set(await place.site.publish(*names, app_id=QUIET))
    await place.site.until(lambda: wanted <= place.site.ledger.outcomes.keys())
    return time.monotonic() - started


async def table(jobs: int) -> Table:
    """Measure each situation."""
    made = Table("One account beside the backlog of another", "p95_s", "make bench-fair ARGS=--record")
    for situation, beside in SITUATIONS.items():
        figures = await measure(beside, jobs)
        made.add(situation, figures)
        print(f"{situation}: {shown(figures)}", flush=True)
    return made


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.fair", description=__doc__)
    parser.add_argument("--jobs", type=int, default=40, help="single jobs timed in each (default: 40)")
    parser.add_argument("--record", action="store_true", help="add the figures to the report")
    arguments = parser.parse_args()
    measured = asyncio.run(table(arguments.jobs))
    if arguments.record:
        report.add({"fair": measured})


if __name__ == "__main__":
    main()
