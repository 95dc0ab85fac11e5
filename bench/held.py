"""Measure what held jobs cost: `python -m bench.held`, or `make bench-held`.

An account's key is refused, and its jobs are held: 10,000 of them, then 50,000. Meanwhile, before and
afterwards, another account's jobs are done as fast as the machine can. Then the account gets a new key, and
the time is taken until all of its jobs have run. Held jobs come back as often as by default.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractChannel

from bench import report
from bench.payload import MIB
from bench.results import Table, shown
from bench.sample import Figures
from bench.site import BUSY, QUIET, Place, open_place
from tests.installation import bill
from worker.core.accounts import HoldPolicy
from worker.simulator.faults import StatusCode

COUNTS = (10_000, 50_000)
JOBS = 2_000
ROUNDS = 3
NONE = "none held"
_COMMAND = "make bench-held ARGS=--record"
_POLL = 0.05
_PATIENCE = 1200.0


class Queues:
    """Publishes jobs and counts what lies where, without taking anything."""

    def __init__(self, channel: AbstractChannel, place: Place) -> None:
        self._channel = channel
        self._site = place.site
        self._published = 0

    async def publish(self, app_id: str, count: int) -> None:
        """Publish jobs of files that were not asked for before."""
        first, self._published = self._published, self._published + count
        for number in range(first, self._published):
            message = aio_pika.Message(self._site.body(bill(number), app_id), delivery_mode=2)
            await self._channel.default_exchange.publish(message, self._site.names.jobs)

    async def done(self) -> int:
        """How many outcomes there are."""
        return await self._depth(self._site.names.results_queue or "")

    async def held(self) -> int:
        """How many jobs are held."""
        return await self._depth(self._site.names.held)

    async def until_done(self, count: int) -> None:
        """Wait for that many outcomes."""
        async with asyncio.timeout(_PATIENCE):
            while await self.done() < count:  # noqa: ASYNC110 - the broker has no event for it
                await asyncio.sleep(_POLL)

    async def until_held(self, count: int) -> None:
        """Wait until that many jobs, but for those on their way, are held."""
        async with asyncio.timeout(_PATIENCE):
            while await self.held() < 0.99 * count:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)

    async def _depth(self, queue: str) -> int:
        declared = await self._channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def measure(counts: Sequence[int], rounds: int) -> tuple[Table, Table]:
    """Measure another account's jobs beside held ones, and how long those wait."""
    beside = Table("One account beside the held jobs of another", "jobs_per_second", _COMMAND)
    waits = Table("Held jobs, until they have run", "broker_mib", _COMMAND)
    async with (
        open_place(latency=0, CONCURRENCY="32", LOG__LEVEL="INFO") as place,
        await aio_pika.connect(place.site.own_url) as connection,
    ):
        queues = Queues(await connection.channel(publisher_confirms=False), place)
        await _done(place, queues)  # so that all is warm
        await _take(beside, NONE, place, queues, rounds)
        waits.add(NONE, {"broker_mib": place.used_by_broker.resident_bytes / MIB})
        place.answer(StatusCode(status=401))
        first = time.monotonic()
        for held in counts:
            waits.add(_name(held), await _hold(place, queues, held))
            # Before that, none of the held jobs comes back.
            await asyncio.sleep(first + HoldPolicy().probe_interval - time.monotonic())
            await _take(beside, _name(held), place, queues, rounds)
        waits.add(_name(counts[-1]), await _let_go(place, queues, counts[-1]))
        await _take(beside, f"{NONE} any more", place, queues, rounds)
    for name, row in waits.rows.items():
        print(f"{name}: {shown({figure: samples[0] for figure, samples in row.items()})}")
    return beside, waits


async def _take(table: Table, name: str, place: Place, queues: Queues, rounds: int) -> None:
    for _ in range(rounds):
        figures = await _done(place, queues)
        table.add(name, figures)
        print(f"{name}: {shown(figures)}", flush=True)


async def _done(place: Place, queues: Queues) -> Figures:
    """Have the quiet account's jobs done."""
    before, worker, broker = await queues.done(), place.used_by_worker, place.used_by_broker
    started = time.monotonic()
    await queues.publish(QUIET, JOBS)
    await queues.until_done(before + JOBS)
    seconds, used = time.monotonic() - started, place.used_by_broker
    return {
        "jobs_per_second": JOBS / seconds,
        "cpu_per_1000_jobs": (place.used_by_worker.cpu_seconds - worker.cpu_seconds) / JOBS * 1000,
        "broker_cpu_per_1000_jobs": (used.cpu_seconds - broker.cpu_seconds) / JOBS * 1000,
        "broker_mib": used.resident_bytes / MIB,
    }


async def _hold(place: Place, queues: Queues, count: int) -> Figures:
    """Have that many jobs of the busy account held."""
    started = time.monotonic()
    await queues.publish(BUSY, count - await queues.held())
    await queues.until_held(count)
    return {
        "hold_s": time.monotonic() - started,
        "broker_mib": place.used_by_broker.resident_bytes / MIB,
    }


async def _let_go(place: Place, queues: Queues, count: int) -> Figures:
    """Give the busy account a key that CC-FS accepts, and wait until its jobs have run."""
    before, started = await queues.done(), time.monotonic()
    place.answer(None)
    place.site.add_key(BUSY, "another secret")
    await queues.until_done(before + count)
    return {"run_s": time.monotonic() - started}


def _name(count: int) -> str:
    return f"{count:,} held"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.held", description=__doc__)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=COUNTS, help="held jobs, rising (default: 10000 50000)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each (default: 3)")
    parser.add_argument("--record", action="store_true", help="add the figures to the report")
    arguments = parser.parse_args()
    beside, waits = asyncio.run(measure(arguments.counts, arguments.rounds))
    if arguments.record:
        report.add({"held": beside, "waits": waits})


if __name__ == "__main__":
    main()
