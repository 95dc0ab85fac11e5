"""The storage is a mount of real NFS, whose server misbehaves in every way that an operator meets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import pytest

from tests.vm import nfs, rows
from tests.vm.disk import format_image
from tests.vm.lab import DATA, Lab
from tests.vm.machine import Machine, MachineError

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

Report = Callable[[rows.Row], None]

_SYNC = "rw,sync,no_root_squash"
_USER = 1000
"""Whose files those are on a server that takes every user for this one."""
_LEFT_FOR = 2000
"""Seconds, less than an hour, since somebody wrote to a leftover."""
_SWEEPS_SOON = {"STORAGE__STALE_AFTER": "700", "JOB_TIMEOUT": "600"}
_JOBS = 60
_BEFORE = 8
"""Outcomes before anything goes wrong."""
_AWARE_WITHIN = 60.0
"""Seconds within which a worker says what is wrong."""
_STALL = 45.0
"""Seconds for which the server is gone; the length of the fault, which orders nothing."""
_PAUSE = 0.5
_UNIQUE = "0123456789abcdef" * 2
_READ_WITHIN = 600.0
# Holds every file open, reads half of it, and the rest once it has been replaced.
_READER = """
import errno, io, json, time, zipfile
from pathlib import Path
paths = Path("/data3").rglob("*.zip")
held = [(file := path.open("rb"), file.read(path.stat().st_size // 2)) for path in paths]
Path("/run/held").touch()
while not Path("/run/replaced").exists():
    time.sleep(0.1)
Path("/proc/sys/vm/drop_caches").write_text("3")
found = {"held": len(held), "whole": 0, "stale": 0, "torn": 0}
for file, begin in held:
    try:
        found["torn" if zipfile.ZipFile(io.BytesIO(begin + file.read())).testzip() else "whole"] += 1
    except zipfile.BadZipFile:
        found["torn"] += 1
    except OSError as exc:
        assert exc.errno == errno.ESTALE
        found["stale"] += 1
print(json.dumps(found))
"""
_SETTINGS = {
    "STORAGE__HANG_AFTER": "5",
    "STORAGE__CHECK_INTERVAL": "1",
    "CONCURRENCY": "4",
    "AMQP__HEARTBEAT": "10",
}


@dataclass(frozen=True)
class Volume:
    """What the server exports.

    Attributes:
        system: The file system.
        options: How the server mounts it.
        owner: Who owns the directory.
        export: How it is exported.
    """

    system: str = "ext4"
    options: str = "defaults"
    owner: int = 0
    export: str = _SYNC


_USUAL = Volume()
# Root is above every quota.
_WITH_QUOTA = Volume("xfs", "uquota", _USER, f"rw,sync,all_squash,anonuid={_USER},anongid={_USER}")


@dataclass
class Share:
    """A machine with an NFS server, a mount of what it exports, and a worker that works there.

    Attributes:
        lab: The installation.
        machine: The machine.
        pid: The worker's process there.
    """

    lab: Lab
    machine: Machine
    pid: int = 0

    async def readiness(self, *, port: int = 8080) -> tuple[int, str]:
        """What the worker says of itself: the HTTP status, and all details in a line."""
        status, body = await self.machine.get("/readyz", port=port)
        if status == 0:
            return status, body
        return status, "; ".join(check["detail"] for check in json.loads(body)["checks"].values())

    async def says(self, text: str) -> None:
        """Wait until the worker is not ready, and says why."""
        status, detail = 200, ""
        try:
            async with asyncio.timeout(_AWARE_WITHIN):
                while not (status == 503 and text in detail):
                    await asyncio.sleep(_PAUSE)
                    status, detail = await self.readiness()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {status} {detail!r}") from None

    async def is_ready(self) -> None:
        """Wait until the worker is ready again."""
        async with asyncio.timeout(_AWARE_WITHIN):
            while True:
                if (await self.readiness())[0] == 200:
                    return
                await asyncio.sleep(_PAUSE)

    async def outcomes(self, number: int) -> None:
        """Wait for that many further outcomes."""
        await self.machine.during("worker", self.lab.outcomes(number))

    def row(self, experiment: str) -> rows.Row:
        """What came of it, once the files have been judged."""
        counts = self.lab.ledger.counts()
        return {
            "experiment": experiment,
            "jobs": counts.published,
            "lost": counts.lost,
            "duplicated": counts.duplicated,
            "unexpected": counts.unexpected,
            "partial": counts.partial,
            "failed": counts.failed,
            "most attempts": max(self.lab.attempts),
            "longest gap": f"{self._longest_gap():.0f} s",
        }

    def _longest_gap(self) -> float:
        settled = sorted(
            datetime.fromisoformat(line["timestamp"])
            for lines in self.machine.lines.values()
            for line in lines
            if line["event"] == "job.settled"
        )
        return max(((after - before).total_seconds() for before, after in pairwise(settled)), default=0.0)


@asynccontextmanager
async def sharing(
    lab: Lab, *, volume: Volume = _USUAL, version: str = "4.2", how: str = "hard", **settings: str
) -> AsyncIterator[Share]:
    """Have a worker at work in a mount."""
    format_image(lab.disk.image, volume.system)
    async with lab.machine() as machine:
        await machine.sh(f"mount -t {volume.system} -o {volume.options} /dev/vdb {nfs.DISK}")
        await nfs.serve(machine)
        await machine.sh(f"chown {volume.owner} {nfs.SHARE}")
        await nfs.export(machine, volume.export)
        await nfs.mount(machine, version=version, how=how)
        await lab.prepare(machine)
        share = Share(lab, machine)
        await lab.publish(_JOBS)
        share.pid = await lab.start_worker(machine, **(_SETTINGS | settings))
        await share.outcomes(_BEFORE)
        yield share


async def _ended_well(share: Share, experiment: str, report: Report, *, worker: str = "worker") -> None:
    """Wait for all outcomes, and see that no promise was broken and that nothing failed."""
    await share.machine.during(worker, share.lab.settled())
    counts = await share.lab.judge(share.machine, nfs.SHARE)
    report(share.row(experiment))

    assert counts.sound
    assert counts.failed == 0


@pytest.mark.parametrize("version", ["4.2", "3"])
async def test_a_mount(lab: Lab, version: str, report: Report) -> None:
    async with sharing(lab, version=version) as share:
        await _ended_well(share, f"NFS {version}, nothing goes wrong", report)


@pytest.mark.parametrize("version", ["4.2", "3"])
async def test_a_server_that_stops_for_a_while(lab: Lab, version: str, report: Report) -> None:
    """A hard mount waits, no attempt is burned, and readiness says what hangs, until it does not any more."""
    async with sharing(lab, version=version) as share:
        await nfs.stop(share.machine)
        await share.says("does not answer")
        await asyncio.sleep(_STALL)
        await share.says("does not answer")
        await nfs.resume(share.machine)
        await share.is_ready()
        await _ended_well(share, f"NFS {version}, hard: the server stops for a while", report)

    assert lab.attempts == {1}


async def test_packets_that_are_lost_for_a_while(lab: Lab, report: Report) -> None:
    """Nobody closes a connection: a partition that only silence shows."""
    table = "nft add table ip lab; nft add chain ip lab in '{ type filter hook input priority 0; }'"
    async with sharing(lab) as share:
        await share.machine.sh(f"{table}; nft add rule ip lab in tcp dport 2049 drop")
        await share.says("does not answer")
        await share.machine.sh("nft delete table ip lab")
        await _ended_well(share, "NFS 4.2, hard: packets to the server are lost", report)

    assert lab.attempts == {1}


async def test_a_soft_mount_whose_server_stops(lab: Lab, report: Report) -> None:
    """Calls fail after a while instead of waiting: intake pauses, and no job fails."""
    async with sharing(lab, how="soft,timeo=30,retrans=2") as share:
        await nfs.stop(share.machine)
        await share.says("storage")
        await nfs.resume(share.machine)
        await _ended_well(share, "NFS 4.2, soft: the server stops for a while", report)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("ro,sync,no_root_squash", "the export turns read-only"),
        ("rw,sync,root_squash", "the export squashes root"),
    ],
)
async def test_an_export_that_refuses_writes(lab: Lab, options: str, name: str, report: Report) -> None:
    """Nothing but a write shows it: intake pauses after one, and no job burns its attempts."""
    async with sharing(lab) as share:
        await nfs.export(share.machine, options)
        await share.says("storage")
        await nfs.export(share.machine, _SYNC)
        await share.is_ready()
        await _ended_well(share, f"NFS 4.2: {name} for a while", report)


async def test_a_volume_that_fills_up(lab: Lab, report: Report) -> None:
    """Intake pauses until there is room again."""
    async with sharing(lab) as share:
        await share.machine.sh(
            f"fallocate -l $(($(stat -f -c '%a * %S' {nfs.DISK}) - 2097152)) {nfs.DISK}/filler"
        )
        await share.says("storage")
        await share.machine.sh(f"rm {nfs.DISK}/filler")
        await _ended_well(share, "NFS 4.2: the server's disk is full for a while", report)


async def test_a_quota_that_is_used_up(lab: Lab, report: Report) -> None:
    """The volume has room, but not for this user: intake pauses until there is."""
    limit = f"xfs_quota -x -c 'limit bhard={{}} {_USER}' {nfs.DISK}"
    async with sharing(lab, volume=_WITH_QUOTA) as share:
        await share.machine.sh(limit.format("64k"))
        await share.says("quota")
        await share.machine.sh(limit.format("0"))
        await share.is_ready()
        await _ended_well(share, "NFS 4.2: the user's quota is used up for a while", report)


async def test_clocks_that_are_an_hour_apart(lab: Lab, report: Report) -> None:
    """Leftovers are told by their age: what is being written stays, what is left behind goes."""
    async with sharing(lab) as share:
        for number, off in enumerate((3600, -3600), 2):
            clock = f"import time\nright = time.time\ntime.time = lambda: right() + {off}\n"
            port = {"HTTP__PORT": f"808{number}"}
            day = await _leave_temporary_files(share.machine, f"2020010{number}")
            await lab.start_worker(
                share.machine, f"worker{number}", before=clock, **(_SETTINGS | _SWEEPS_SOON | port)
            )
            await _until_swept(share.machine, f"worker{number}")
            (left,) = (await share.machine.sh(f"cd {day}; ls -A")).split()
            assert "in-use" in left
        await _ended_well(share, "NFS 4.2: the clocks of worker and server are an hour apart", report)


async def _leave_temporary_files(machine: Machine, day: str) -> str:
    """Have the server hold a file that is being written and one that is left behind; gives where."""
    folder = f"{nfs.SHARE}/app1/{day}"
    in_use, left = (f".{day}_{name}.zip.{_UNIQUE}.part" for name in ("in-use", "left"))
    await machine.sh(
        f"mkdir -p {folder}; cd {folder}; touch {in_use}; touch -d '-{_LEFT_FOR} seconds' {left}"
    )
    return folder


async def _until_swept(machine: Machine, worker: str) -> None:
    async with asyncio.timeout(_AWARE_WITHIN):
        while True:
            if any(line["event"] == "storage.swept" for line in machine.lines[worker]):
                return
            await asyncio.sleep(_PAUSE)


async def test_a_stale_root(lab: Lab, report: Report) -> None:
    """The exported directory is replaced: probes say that the pod must go, and a new mount goes on."""
    async with sharing(lab, STORAGE__RESTART_ON_STALE_MOUNT="true") as share:
        machine = share.machine
        await machine.sh(f"exportfs -ua; mv {nfs.SHARE} {nfs.DISK}/old")
        await nfs.export(machine, _SYNC)
        await machine.sh("echo 3 > /proc/sys/vm/drop_caches")
        await share.says("stale")
        assert (await machine.get("/livez"))[0] == 503
        await machine.sh(f"exportfs -ua; rm -rf {nfs.SHARE}; mv {nfs.DISK}/old {nfs.SHARE}")
        await nfs.export(machine, _SYNC)
        await machine.sh(f"kill -TERM {share.pid}; umount -l {DATA}")
        assert await machine.until_ended("worker", _AWARE_WITHIN)
        await nfs.mount(machine)
        await lab.start_worker(machine, "worker2", **_SETTINGS)
        await _ended_well(
            share, "NFS 4.2: the exported directory is replaced, then a new pod", report, worker="worker2"
        )


async def test_sigterm_while_the_server_is_gone(lab: Lab, report: Report) -> None:
    """The jobs go back, although the process itself may have to wait for the mount."""
    async with sharing(lab, SHUTDOWN_GRACE="5") as share:
        await nfs.stop(share.machine)
        await share.says("does not answer")
        await share.machine.sh(f"kill -TERM {share.pid}")
        await _until_given_back(lab)
        await nfs.resume(share.machine)
        assert await share.machine.until_ended("worker", _AWARE_WITHIN)
        await lab.start_worker(share.machine, "worker2", **_SETTINGS)
        await _ended_well(share, "NFS 4.2, hard: SIGTERM while the server is gone", report, worker="worker2")


async def _until_given_back(lab: Lab) -> None:
    async with asyncio.timeout(_AWARE_WITHIN):
        while True:
            if await lab.site.queue_length(lab.site.names.jobs) >= len(lab.ledger.open_jobs):
                return
            await asyncio.sleep(_PAUSE)


async def test_two_workers_in_two_mounts_and_every_job_twice(lab: Lab, report: Report) -> None:
    """Two clients rename over each other's files: each outcome is of the file that is there."""
    async with sharing(lab) as share:
        await _add_a_mount_with_a_worker(share)
        await lab.publish_twice(_JOBS)
        await _ended_well(share, "NFS 4.2: two workers in two mounts, every job twice", report)


async def test_files_that_are_replaced_while_they_are_read(lab: Lab, report: Report) -> None:
    """A reader that has a file open while two clients rename over it reads all of it, or meets ESTALE."""
    async with sharing(lab) as share:
        await _add_a_mount_with_a_worker(share)
        await share.machine.during("worker", lab.settled())
        await share.machine.sh(f"cat > /run/reader.py <<'END'\n{_READER}\nEND")
        await nfs.mount(share.machine, where="/data3", how="hard,nosharecache")
        reading = asyncio.create_task(share.machine.sh("python3 /run/reader.py", timeout=_READ_WITHIN))
        await share.machine.sh("until test -e /run/held; do sleep 0.1; done")
        await lab.publish_again(_JOBS)
        await share.machine.during("worker", lab.settled())
        await share.machine.sh("touch /run/replaced")
        read = json.loads(await reading)
        await _ended_well(
            share,
            f"NFS 4.2: {read['held']} files are replaced by two clients while a third reads: "
            f"{read['whole']} read to the end, {read['stale']} ESTALE",
            report,
        )

    assert read["whole"] + read["stale"] == read["held"] > 0


async def _add_a_mount_with_a_worker(share: Share) -> None:
    """Have a second worker work in a mount of its own, with a cache of its own."""
    await nfs.mount(share.machine, where="/data2", how="hard,nosharecache")
    await share.lab.start_worker(
        share.machine, "worker2", **(_SETTINGS | {"STORAGE__ROOT": "/data2", "HTTP__PORT": "8081"})
    )


async def test_a_machine_says_what_failed(lab: Lab) -> None:
    """So that the tests above can fail."""
    async with lab.machine() as machine:
        with pytest.raises(MachineError, match="no such file"):
            await machine.sh("echo no such file; exit 1")
