"""The broker's machine loses its power in the middle of work: what it has confirmed is there afterwards.

The worker, CC-FS and the upstream run outside of that machine, and go on.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path

import aio_pika
import pytest

from devkit.run.ports import free_ports
from tests.installation import Site, bill, collecting
from tests.vm import node, rows
from tests.vm.disk import Disk, format_image, new_image
from tests.vm.lab import BOUND, DATA, TIERS
from tests.vm.machine import Machine
from worker.broker import Names, Topology
from worker.broker.topology import declare
from worker.simulator import Range, SimulatorOptions, open_simulator

Report = Callable[[rows.Row], None]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

_CUTS, _JOBS, _TOGETHER = 3, 60, 5
_OUTCOMES = 10, 60
"""How many further outcomes there are before a cut, at least and at most."""
_SIZES = (Range(20 * 1024, 200 * 1024),)
_LATENCY = Range(0.05, 0.3)
_DELIVERY_LIMIT = 100
_DECLARED_WITHIN = 60.0


class BrokerLab:
    """An installation whose broker runs in a machine.

    Args:
        site: The installation.
        disk: The disk with the broker's data.
        port: Where the host reaches the broker.

    Attributes:
        site: The installation.
    """

    def __init__(self, site: Site, disk: Disk, port: int) -> None:
        self.site = site
        self._disk = disk
        self._port = port
        self._numbers = count()

    @asynccontextmanager
    async def powered(self, options: str = "defaults") -> AsyncIterator[Machine]:
        """Have the broker at work with the data it had; the power is cut at the end."""
        async with Machine(self._disk, self.site.folder / "machine", amqp_port=self._port) as machine:
            await machine.sh(f"mount -t ext4 -o {options} /dev/vdb {DATA}")
            await node.start(machine, self.site.url)
            yield machine

    async def publish(self, number: int) -> None:
        """Publish jobs that were not there before, until each is confirmed."""
        await self.site.publish(*(bill(which) for which in islice(self._numbers, number)))

    async def keep_publishing(self) -> None:
        """Publish for ever, whatever happens to the broker, as long as few jobs are open."""
        while True:
            await self.publish(_TOGETHER)
            await self.site.until(lambda: len(self.site.ledger.open_jobs) < _JOBS, BOUND)

    async def outcomes(self, number: int) -> None:
        """Wait for that many further outcomes."""
        wanted = len(self.site.ledger.outcomes) + number
        await self.site.until(lambda: len(self.site.ledger.outcomes) >= wanted, BOUND)

    async def declare(self) -> None:
        """Declare what a worker would."""
        topology = Topology(names=self.site.names, tiers=TIERS, delivery_limit=_DELIVERY_LIMIT)
        async with await aio_pika.connect(self.site.url) as connection:
            await declare(connection, topology, passive=False, timeout=_DECLARED_WITHIN)

    def row(self, experiment: str, cuts: int, **counts: int | str) -> rows.Row:
        """What came of it."""
        heads = ("jobs", "announced", "lost", "duplicated", "unexpected", "partial")
        return {
            "experiment": experiment,
            "power cuts": cuts,
            "in a flush": self._disk.cuts_in_a_flush,
            **{head: counts.get(head, "-") for head in heads},
        }


@pytest.fixture
async def broker_lab(names: Names, keys: Path, root: Path, tmp_path: Path) -> AsyncIterator[BrokerLab]:
    """An installation whose broker has no power yet."""
    (port,) = free_ports(1)
    url = f"amqp://guest:guest@127.0.0.1:{port}/"
    options = SimulatorOptions(keys=keys, plain=True, sizes=_SIZES, latency=_LATENCY, history=1000)
    async with open_simulator(options) as simulator:
        site = Site(
            url=url, own_url=url, names=names, simulator=simulator, folder=tmp_path, root=root, keys=keys
        )
        disk = Disk(new_image(tmp_path / "disk.img"))
        format_image(disk.image, "ext4")
        yield BrokerLab(site, disk, port)


async def test_what_the_broker_confirmed_is_there(broker_lab: BrokerLab, report: Report) -> None:
    """Every job has its outcome, whichever confirms, acks and deliveries the cuts fall between."""
    site = broker_lab.site
    settings = {"AMQP__DELIVERY_LIMIT": str(_DELIVERY_LIMIT), "RETRY__DELAYS": json.dumps(TIERS)}
    with site.worker(**settings):
        async with collecting(site), asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(broker_lab.keep_publishing())
            for _ in range(_CUTS):
                async with broker_lab.powered():
                    await broker_lab.outcomes(random.randint(*_OUTCOMES))
                    # So that the cut may fall anywhere between two outcomes.
                    await asyncio.sleep(random.random())
            publishing.cancel()
            async with broker_lab.powered():
                counts = await site.settled(BOUND)
                found = {"jobs": counts.published, "announced": counts.completed} | asdict(counts)
                report(broker_lab.row("RabbitMQ 3.10 on ext4, its own power", _CUTS, **found))

    assert counts.sound
    assert counts.failed == 0


async def test_a_broker_without_barriers_loses_jobs(broker_lab: BrokerLab, report: Report) -> None:
    """The lab can fail: the jobs are gone, or the node does not even start."""
    left = 0
    async with broker_lab.powered() as machine:
        await broker_lab.declare()
        await node.stop(machine)
        await machine.sh(f"umount {DATA}")
    async with broker_lab.powered("barrier=0"):
        await broker_lab.publish(_JOBS)
    with suppress(node.NodeError):
        async with broker_lab.powered():
            left = await broker_lab.site.queue_length(broker_lab.site.names.jobs)
    report(
        broker_lab.row(
            "control: RabbitMQ on ext4 with `barrier=0`, its own power", 1, jobs=_JOBS, lost=_JOBS - left
        )
    )

    assert left < _JOBS
