"""The machine loses its power in the middle of work: what was announced is there afterwards, and whole.

Each control takes from the worker, or from its file system, one of the things that the promise rests on, and
must lose files: a lab in which nothing can be lost would prove nothing.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.vm import nfs, rows
from tests.vm.disk import format_image
from tests.vm.lab import DATA, Lab
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

_CUTS, _MOST_CUTS_OF_A_CONTROL = 5, 8
_OUTCOMES = 8, 40
"""How many further outcomes there are before a cut, at least and at most."""
_BACKLOG = 60
"""How many jobs are without an outcome when a machine starts, at least."""

_NO_FLUSH = "import os\nos.fsync = os.fdatasync = lambda descriptor: None\n"
_NO_FLUSH_OF_DIRECTORIES = """
import os, stat
flush = os.fsync
os.fsync = lambda descriptor: None if stat.S_ISDIR(os.fstat(descriptor).st_mode) else flush(descriptor)
"""
_NO_FLUSH_OF_FILES = """
import os, stat
flush = os.fsync
os.fsync = lambda descriptor: flush(descriptor) if stat.S_ISDIR(os.fstat(descriptor).st_mode) else None
"""


@dataclass(frozen=True)
class Experiment:
    """Where files are stored, and what is taken away from them.

    Attributes:
        name: What the table calls it.
        system: The file system on the disk.
        options: Its mount options.
        export: How the disk is exported by NFS, and mounted from there; empty to mount it itself.
        before: What sabotages the worker.
    """

    name: str
    system: str = "ext4"
    options: str = "defaults"
    export: str = ""
    before: str = ""

    async def mount(self, machine: Machine) -> None:
        """Have the machine mount its storage."""
        where = nfs.DISK if self.export else DATA
        await machine.sh(f"mkdir -p {where}; mount -t {self.system} -o {self.options} /dev/vdb {where}")
        if self.export:
            await nfs.serve(machine)
            await nfs.export(machine, self.export)
            await nfs.mount(machine)


SOUND = [
    Experiment("ext4"),
    Experiment("xfs", system="xfs"),
    Experiment("NFS, `sync` export; client and server together", export="rw,sync,no_root_squash"),
]
CONTROLS = [
    Experiment("control: no fsync", before=_NO_FLUSH),
    Experiment("control: no fsync of files", before=_NO_FLUSH_OF_FILES),
    Experiment("control: no fsync of directories", before=_NO_FLUSH_OF_DIRECTORIES),
    Experiment("control: ext4 with `barrier=0`", options="barrier=0"),
    Experiment("control: NFS, `async` export", export="rw,async,no_root_squash"),
]


class Cuts:
    """Cuts the power of a lab's machine again and again, and keeps the worst that was found after it.

    Args:
        lab: The lab.
        experiment: Where files are stored.

    Attributes:
        made: How many cuts there were.
        settled: Whether every job had its time to have an outcome.
        damage: The most files that were ever missing or wrong though announced, and that were partial.
    """

    def __init__(self, lab: Lab, experiment: Experiment) -> None:
        self._lab = lab
        self._experiment = experiment
        self.made = 0
        self.settled = False
        self.damage = 0, 0

    async def cut(self) -> None:
        """Start the machine, look at all that was ever announced, let it work, and cut its power."""
        lab = self._lab
        await lab.publish(max(0, _BACKLOG - len(lab.ledger.open_jobs)))
        async with lab.machine() as machine:
            await self._started(machine)
            await machine.during("worker", lab.outcomes(random.randint(*_OUTCOMES)))
            # So that the cut may fall anywhere between two outcomes.
            await asyncio.sleep(random.random())
        self.made += 1

    async def settle(self) -> None:
        """Start the machine for good, and let it end its work."""
        async with self._lab.machine() as machine:
            await self._started(machine)
            await machine.during("worker", self._lab.settled())
            self.settled = True
            await self._judge(machine)

    def row(self) -> rows.Row:
        """What came of it."""
        counts, (unexpected, partial) = self._lab.ledger.counts(), self.damage
        return {
            "experiment": self._experiment.name,
            "power cuts": self.made,
            "in a flush": self._lab.disk.cuts_in_a_flush,
            "jobs": counts.published,
            "announced": counts.completed,
            "lost": counts.lost if self.settled else "-",
            "duplicated": counts.duplicated,
            "unexpected": unexpected,
            "partial": partial,
        }

    async def _started(self, machine: Machine) -> None:
        await self._experiment.mount(machine)
        await self._judge(machine)
        await self._lab.prepare(machine)
        await self._lab.start_worker(machine, before=self._experiment.before)

    async def _judge(self, machine: Machine) -> None:
        counts = await self._lab.judge(machine)
        unexpected, partial = self.damage
        self.damage = max(unexpected, counts.unexpected), max(partial, counts.partial)


@pytest.mark.parametrize("experiment", SOUND, ids=lambda experiment: experiment.name)
async def test_what_was_announced_is_there(
    lab: Lab, experiment: Experiment, report: Callable[[rows.Row], None]
) -> None:
    """Every announced file is whole after each cut, and every job has its outcome in the end."""
    format_image(lab.disk.image, experiment.system)
    cuts = Cuts(lab, experiment)
    for _ in range(_CUTS):
        await cuts.cut()
    await cuts.settle()
    report(cuts.row())

    assert cuts.damage == (0, 0)
    counts = lab.ledger.counts()
    assert counts.sound
    assert counts.failed == 0


@pytest.mark.parametrize("experiment", CONTROLS, ids=lambda experiment: experiment.name)
async def test_a_control_loses_files(
    lab: Lab, experiment: Experiment, report: Callable[[rows.Row], None]
) -> None:
    """The lab can fail."""
    format_image(lab.disk.image, experiment.system)
    cuts = Cuts(lab, experiment)
    while cuts.damage == (0, 0) and cuts.made <= _MOST_CUTS_OF_A_CONTROL:
        await cuts.cut()
    report(cuts.row())

    assert cuts.damage != (0, 0)
