"""One sample: a contestant works through its queue while a clock and its CPU time run.

The clock starts when the first, small jobs are done, so that every slot, connection and import is warm, and
stops when the last of the measured ones is. Results are counted, not consumed, until then: reading them would
take CPU from a machine of few cores.
"""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench import usage
from bench.contestants import Contestant, Surroundings
from bench.lab import Lab
from bench.memory import touch_memory
from bench.payload import MIB, SMALL
from bench.queues import Queues
from bench.setting import Setting

_POLL = 0.01
_PATIENCE = 240.0
LARGE_BYTES = 1024 * MIB
"""From this total on, memory is touched before a sample."""
_DAY = "20260131"

Figures = dict[str, float]
"""Named figures of one sample."""


class SampleError(RuntimeError):
    """A contestant did not do its jobs; the text holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment: the results so far, the clock, and what was used."""

    results: int
    moment: float
    used: usage.Usage


async def take(lab: Lab, queues: Queues, contestant: Contestant, setting: Setting) -> Figures:
    """Take one sample; leaves the broker as it was.

    Raises:
        SampleError: The contestant ended, was too slow, or a job of it did not complete.
    """
    if setting.total_bytes >= LARGE_BYTES:
        touch_memory()
    try:
        with lab.storage(setting) as root:
            around = lab.surroundings(setting, root)
            await enqueue(queues, contestant, around, setting)
            return await _run(queues, contestant, around, setting)
    finally:
        await queues.clear(contestant.queue)


async def enqueue(queues: Queues, contestant: Contestant, around: Surroundings, setting: Setting) -> None:
    """Put a contestant's jobs into its queue: the small ones to warm up with, then those of the setting."""
    jobs = [(SMALL.name, f"{_DAY}_warm{number:08}.zip") for number in range(setting.warm_up)]
    jobs += [(setting.payload.name, f"{_DAY}_{number:08}.zip") for number in range(setting.queued)]
    if contestant.framework:
        await asyncio.to_thread(contestant.enqueue, jobs, around, setting)
    else:
        await queues.add_jobs(contestant.queue, contestant.queue_arguments, jobs)


async def _run(queues: Queues, contestant: Contestant, around: Surroundings, setting: Setting) -> Figures:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(contestant, around, setting, Path(folder) / "output") as (process, output),
    ):
        started = time.monotonic()
        first = await reach(queues, process, output, setting.warm_up)
        last = await reach(queues, process, output, setting.warm_up + setting.jobs)
        results = await queues.read_results(last.results)
    return {
        "start_seconds": first.moment - started,
        **_rates(first, last, setting),
        **_durations(results[first.results :]),
    }


@contextmanager
def running(
    contestant: Contestant, around: Surroundings, setting: Setting, output: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a contestant; yield its process, and the file of its output."""
    process = contestant.start(around, setting, output)
    try:
        yield process, output
    finally:
        # Kill all of its processes: what it holds is cleared away, and some take seconds to stop.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def reach(queues: Queues, process: subprocess.Popen[bytes], output: Path, count: int) -> Mark:
    """Wait until there are that many results.

    Raises:
        SampleError: The contestant ended, or was too slow.
    """
    deadline = time.monotonic() + _PATIENCE
    while (results := await queues.results()) < count:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SampleError(f"{results} of {count} results came from {process.args!r}:\n{_end_of(output)}")
        await asyncio.sleep(_POLL)
    return Mark(results, time.monotonic(), usage.of_tree(process.pid))


def _end_of(output: Path) -> str:
    return output.read_text(errors="replace")[-2000:]


def _rates(first: Mark, last: Mark, setting: Setting) -> Figures:
    jobs = last.results - first.results
    seconds = last.moment - first.moment
    cpu = last.used.cpu_seconds - first.used.cpu_seconds
    gibibytes = jobs * setting.payload.size / 1024**3
    return {
        "jobs_per_second": jobs / seconds,
        "mb_per_second": jobs * setting.payload.size / 1e6 / seconds,
        "cpu_per_1000_jobs": cpu / jobs * 1000,
        "cpu_per_gib": cpu / gibibytes,
        "peak_mib": last.used.peak_bytes / MIB,
    }


def _durations(results: list[dict[str, Any]]) -> Figures:
    """The durations in the results: from receiving a job to its durable file."""
    if failed := next((result for result in results if result["status"] != "completed"), None):
        raise SampleError(f"a job failed: {json.dumps(failed)}")
    spans = [_seconds(result["startedAt"], result["finishedAt"]) * 1000 for result in results]
    percentiles = quantiles(spans, n=100) if len(spans) > 1 else spans * 99
    return {"p50_ms": percentiles[49], "p99_ms": percentiles[98]}


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
