"""A long run under all faults together: `python -m tests.faults.soak --minutes 20`, or `make soak`.

Thousands of jobs of random size, account and priority, and hostile messages among them, meet a CC-FS with
random faults, workers that are killed every few seconds, storage that hangs, and a broker that restarts every
minute, is slow, or takes no messages for a while. With `--nodes 3` the broker is a cluster behind a balancer,
and its nodes are killed, parted and restarted. One worker is spared, so that its memory can be watched.
What counts is printed at the end; the exit code is 1 when anything was lost, unexpected or partial, or when
the spared worker's memory grew.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from devkit.demo.ledger import Counts, Ledger
from devkit.run import server
from devkit.run.rabbitmq import PrivateRabbitMQ
from devkit.run.worker_process import WorkerError, WorkerProcess
from tests.cluster import apart
from tests.cluster.cluster import SIZE
from tests.faults import hostile
from tests.faults.brokers import Broker, one_node, three_nodes
from tests.faults.preload import build
from tests.faults.proxy import Proxy, open_proxy
from tests.installation import Site, bill, collecting
from worker.broker import Names
from worker.simulator import Range, SimulatorOptions, open_simulator, parse_fault

ACCOUNTS = tuple(f"app{number}" for number in range(5))
FAULTS = (
    "0300008:0.03",
    "0300011:0.01",
    "http-502:0.01",
    "http-429,retry-after=1:0.005",
    "reset:0.01",
    "reset-body:0.02",
    "short:0.02",
    "chunked:0.05",
    "chunked-cut:0.01",
    "stall:0.005",
    "silence:0.003",
    "bad-crc:0.01",
    "not-zip:0.01",
    "json:0.01",
    "redirect:0.005",
    "gzip:0.005",
    "garbage:0.005",
)
SIZES = Range(4 * 1024, 1024 * 1024)
OPEN_JOBS = 400
KILL_EVERY = (2.0, 8.0)
HOSTILE_EVERY = 0.5
HANG_EVERY, HANG_FOR = (20.0, 40.0), (1.0, 6.0)
ALARM_EVERY, ALARM_FOR = (30.0, 50.0), (2.0, 8.0)
SLOW_EVERY, SLOW_FOR, SLOW_BY = (20.0, 40.0), (2.0, 8.0), 0.2
WATERMARKS = ("0.0001", "0.4")
"""Shares of memory in use from which on RabbitMQ takes no messages: one too low, and its default."""
SETTLE_WITHIN = 600.0
NOT_STARTED = 2
"""Exit code of a worker that cannot start as things are."""
_MINUTE = 60
"""Samples of memory in a minute."""
WARM_UP = 0.1
"""The share of the run after which a worker has seen everything once, and its memory counts."""
MEMORY_MAY_GROW = 1.05
"""A share, from one half of the run to the other: what the allocator takes and gives back is no growth."""
MEMORY_TOLD_BY = 9 * _MINUTE
"""Samples. In the first minutes every worker grows; a run of ten minutes has some less than one a second."""

WORKER_SETTINGS = {
    "AMQP__DELIVERY_LIMIT": "1000",
    "AMQP__HEARTBEAT": "4",
    "CCFS__IDLE_TIMEOUT": "2",
    "CCFS__PAUSE_AFTER": "5",
    "CONCURRENCY": "8",
    "CONCURRENCY_PER_APP": "4",
    "AMQP__PUBLISH_TIMEOUT": "1",
    "STORAGE__CHECK_INTERVAL": "0.5",
    "STORAGE__HANG_AFTER": "2",
    "RETRY__DELAYS": "[0.2, 0.5, 1, 2, 4]",
    "LOG__LEVEL": "INFO",
}


@dataclass
class Tally:
    """What the run did.

    Attributes:
        kills: workers killed.
        refusals: workers that did not start, since the storage hung.
        hostile: hostile messages published.
        hangs: times that the storage hung.
        alarms: times that the broker took no messages.
        slows: times that it was slow.
        broken: times that it was broken, by fault.
        memory: resident bytes of the spared worker, a sample a second.
        highest: the highest resident size of any worker, in bytes.
    """

    kills: int = 0
    refusals: int = 0
    hostile: int = 0
    hangs: int = 0
    alarms: int = 0
    slows: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    highest: int = 0


async def publish(site: Site) -> None:
    """Keep the queue filled."""
    number = 0
    while True:
        wanted = OPEN_JOBS - len(site.ledger.open_jobs)
        if wanted > 0:
            names = [bill(number + offset) for offset in range(wanted)]
            number += wanted
            await site.publish(*names, app_id=random.choice(ACCOUNTS))
        await asyncio.sleep(0.1)


async def kill(workers: list[WorkerProcess], tally: Tally) -> None:
    """Kill one worker after another, and start it again."""
    while True:
        await asyncio.sleep(random.uniform(*KILL_EVERY))
        victim = random.choice(workers)
        try:
            tally.highest = max(tally.highest, victim.peak_memory())
        except WorkerError:
            # It was started while the storage hung, which it refuses. A kubelet would start it again, too.
            if victim.exit_code != NOT_STARTED:
                raise
            tally.refusals += 1
        else:
            victim.kill()
            tally.kills += 1
        victim.start()


async def publish_hostile(site: Site, tally: Tally) -> None:
    """Put messages among the jobs that are hard to take."""
    for message in hostile.messages(site, ACCOUNTS):
        await hostile.publish(site, message)
        tally.hostile += 1
        await asyncio.sleep(HOSTILE_EVERY)


async def break_broker(broker: Broker, only: asyncio.Lock, tally: Tally) -> None:
    """Break the broker in one way after another: in each once, in random order, and then again."""
    while True:
        for fault in random.sample(broker.faults, len(broker.faults)):
            await asyncio.sleep(broker.every)
            async with only:
                tally.broken[fault.name] += 1
                await _to_its_end(fault.happen)


async def alarm(node: PrivateRabbitMQ, only: asyncio.Lock, tally: Tally) -> None:
    """Have the broker confirm nothing for a while, since it is short of memory."""
    while True:
        await asyncio.sleep(random.uniform(*ALARM_EVERY))
        async with only:
            tally.alarms += 1
            await _to_its_end(partial(_be_short_of_memory, node, random.uniform(*ALARM_FOR)))


async def _to_its_end(do: Callable[[], None]) -> None:
    """Do something that blocks. A cancellation waits for its end: the broker would stay broken otherwise."""
    doing = asyncio.create_task(asyncio.to_thread(do))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await doing
        raise


def _be_short_of_memory(node: PrivateRabbitMQ, seconds: float) -> None:
    little, usual = WATERMARKS
    node.rabbitmqctl("set_vm_memory_high_watermark", little)
    time.sleep(seconds)
    node.rabbitmqctl("set_vm_memory_high_watermark", usual)


async def slow(line: Proxy, tally: Tally) -> None:
    """Have what workers and broker say take its time."""
    while True:
        await asyncio.sleep(random.uniform(*SLOW_EVERY))
        line.slow(SLOW_BY)
        tally.slows += 1
        try:
            await asyncio.sleep(random.uniform(*SLOW_FOR))
        finally:
            line.slow(0)


async def hang(disk: Path, tally: Tally) -> None:
    """Have the storage not answer for a while; see `failing_disk.c`."""
    while True:
        await asyncio.sleep(random.uniform(*HANG_EVERY))
        disk.write_text("all hang\n")
        try:
            tally.hangs += 1
            await asyncio.sleep(random.uniform(*HANG_FOR))
        finally:
            disk.unlink()


async def watch(spared: WorkerProcess, tally: Tally) -> None:
    """Sample the spared worker's memory, and tell each minute how high it was."""
    while True:
        await asyncio.sleep(1)
        tally.memory.append(spared.memory())
        tally.highest = max(tally.highest, spared.peak_memory())
        minutes, seconds = divmod(len(tally.memory), _MINUTE)
        if not seconds:
            last = [size / 2**20 for size in tally.memory[-_MINUTE:]]
            print(
                f"minute {minutes}: the spared worker had {median(last):.0f} MiB, {max(last):.0f} at most",
                flush=True,
            )


def failing_disk(folder: Path) -> Path:
    """Give the switch that makes the storage hang, for all workers from here on."""
    library = build("failing_disk", folder)
    if library is None:
        sys.exit("the soak needs a C compiler (cc): without one, storage cannot be made to hang")
    switch = folder / "failing_disk"
    os.environ |= {"LD_PRELOAD": str(library), "FAILING_DISK": str(switch)}
    return switch


@asynccontextmanager
async def installed(broker: Broker, folder: Path) -> AsyncIterator[tuple[Site, Proxy]]:
    """A site with accounts and faults, and the line between its workers and its broker."""
    keys, root = folder / "keys", folder / "files"
    for directory in (keys, root):
        directory.mkdir()
    for account in ACCOUNTS:
        (keys / account).write_text("secret")
    options = SimulatorOptions(
        keys=keys, state=folder, sizes=(SIZES,), faults=tuple(map(parse_fault, FAULTS)), history=1000
    )
    async with (
        open_simulator(options) as simulator,
        open_proxy(*broker.address) as line,
    ):
        site = Site(
            url=f"amqp://guest:guest@127.0.0.1:{line.port}/",
            own_url=broker.own_url,
            names=Names(),
            simulator=simulator,
            folder=folder,
            root=root,
            keys=keys,
        )
        async with collecting(site):
            yield site, line


async def run(broker: Broker, minutes: float) -> tuple[Counts, Tally, float]:
    """Run, then let everything settle; gives the counts, what was done, and the seconds it took."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ExitStack() as stack:
        folder = Path(name)
        disk = failing_disk(folder)
        async with installed(broker, folder) as (site, line):
            only = asyncio.Lock()
            spared, *others = (
                stack.enter_context(site.worker(f"worker{number}", **WORKER_SETTINGS)) for number in range(3)
            )
            await spared.readiness(patience=SETTLE_WITHIN)
            started = time.monotonic()
            end = asyncio.timeout(minutes * 60)
            try:
                async with end:
                    await together(
                        lambda: publish(site),
                        lambda: kill(others, tally),
                        lambda: publish_hostile(site, tally),
                        lambda: break_broker(broker, only, tally),
                        lambda: alarm(broker.node, only, tally),
                        lambda: slow(line, tally),
                        lambda: hang(disk, tally),
                        lambda: watch(spared, tally),
                    )
            except TimeoutError:
                # A work's own is in a group and not caught; contextlib.suppress takes it, too (Python 3.12).
                if not end.expired():
                    raise
            with suppress(AssertionError):
                await site.until(lambda: not site.ledger.open_jobs, SETTLE_WITHIN)
            counts = await asyncio.to_thread(site.ledger.counts)
            seconds = time.monotonic() - started
            if not counts.sound:
                tell_what_is_wrong(site.ledger)
            return counts, tally, seconds


def tell_what_is_wrong(ledger: Ledger) -> None:
    """Print each job, outcome and file that counts as lost, unexpected or partial."""
    files = ledger.files()
    for wrong in (*ledger.open_jobs, *ledger.unexpected(files), *ledger.partial(files)):
        print(f"wrong: {wrong}")


async def together(*works: Callable[[], Awaitable[None]]) -> None:
    """Do several things until one of them fails or we are cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(_awaited(work()))


async def _awaited(work: Awaitable[None]) -> None:
    await work


def report(counts: Counts, tally: Tally, seconds: float) -> bool:
    """Print what counts; gives whether all is well."""
    begin, half = int(len(tally.memory) * WARM_UP), len(tally.memory) // 2
    early, late = median(tally.memory[begin:half]), median(tally.memory[half:])
    print(
        f"lost={counts.lost} duplicated={counts.duplicated} unexpected={counts.unexpected} "
        f"partial={counts.partial}"
    )
    broken = "".join(f"{times} {name}, " for name, times in tally.broken.items())
    print(
        f"{counts.published} jobs, {counts.completed} completed, {counts.failed} failed, "
        f"{counts.published / seconds:.0f} jobs/s, {tally.kills} workers killed, {broken}"
        f"{seconds / 60:.1f} minutes"
    )
    print(
        f"{tally.hostile} hostile messages, {tally.hangs} times a storage that hung "
        f"({tally.refusals} workers were not started then), "
        f"{tally.alarms} memory alarms, {tally.slows} times a slow line"
    )
    print(f"highest memory of a worker: {tally.highest / 2**20:.0f} MiB")
    told = len(tally.memory) >= MEMORY_TOLD_BY
    bound = f"it may grow by {MEMORY_MAY_GROW - 1:.0%}" if told else "the run was too short to tell growth"
    print(
        f"memory: minutes {begin / _MINUTE:.0f} to {half / _MINUTE:.0f}: {early / 2**20:.1f} MiB, "
        f"those after: {late / 2**20:.1f} MiB (median of the spared worker; {bound})"
    )
    return counts.sound and (late <= early * MEMORY_MAY_GROW or not told)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run the worker under all faults together.")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    parser.add_argument("--nodes", type=int, default=1, choices=(1, SIZE), help="of RabbitMQ (default: 1)")
    parser.add_argument("--seed", type=int, default=None, help="repeats the order of the faults")
    arguments = parser.parse_args()
    if arguments.nodes > 1 and apart.current_folder() is None:
        sys.exit(run_apart())
    random.seed(arguments.seed)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    sys.exit(0 if report(*asyncio.run(run_on(arguments.nodes, arguments.minutes))) else 1)


def run_apart() -> int:
    """Run the same command in namespaces of its own, where a cluster can be; gives its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    apart.check_machine("make soak CLUSTER=3")
    server.ensure()
    return apart.run(sys.executable, "-m", "tests.faults.soak", *sys.argv[1:], folder=apart.FOLDER / "soak")


async def run_on(nodes: int, minutes: float) -> tuple[Counts, Tally, float]:
    """Run on a broker of so many nodes."""
    folder = apart.current_folder()
    async with three_nodes(Names().jobs, folder) if folder and nodes > 1 else one_node() as broker:
        return await run(broker, minutes)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
