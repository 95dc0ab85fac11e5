"""A disk that is full, over quota, read-only, broken or gone: intake waits, and no event tells a lie."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.run.worker_process import WorkerProcess
from tests.commands import CCFS_WORKER, command
from tests.installation import APP, Site, bill
from worker.simulator.faults import Chunked, HeldAnswer

MIB = 1024**2
VOLUME = 8 * MIB


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def volume(root: Path) -> Iterator[Path]:
    """The storage root as a volume of its own, of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a volume needs root")
    try:
        mount("-t", "tmpfs", "-o", f"size={VOLUME}", "tmpfs", str(root))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let us mount a volume")
    yield root
    while os.path.ismount(root):
        subprocess.run(["umount", "--lazy", str(root)], check=True)


async def test_a_disk_that_is_full(site: Site, volume: Path) -> None:
    """Jobs wait, readiness says so, and once there is space they are done in their first attempt."""
    ballast = volume / "ballast"
    ballast.write_bytes(bytes(VOLUME - MIB))
    with site.worker(STORAGE__MIN_FREE_BYTES=str(2 * MIB), STORAGE__CHECK_INTERVAL="0.1") as worker:
        # Before that it is not ready either, since it only starts.
        await worker.logged("intake.paused")
        checks = await worker.readiness(503)
        assert "bytes are free" in checks["intake"]["detail"]
        job_ids = await site.publish(*(bill(number) for number in range(10)))
        ballast.unlink()
        counts = await site.settled()
        await worker.readiness()

    assert (counts.completed, counts.sound) == (10, True)
    assert {site.ledger.outcomes[job_id][0].attempts for job_id in job_ids} == {1}


@pytest.mark.parametrize("simulator_options", [3 * MIB], indirect=True)
async def test_a_disk_that_fills_up_while_writing(site: Site, volume: Path) -> None:
    """Nothing announced how large the file is; what was written of it is removed."""
    site.simulator.plan = lambda _: Chunked()
    ballast = volume / "ballast"
    ballast.write_bytes(bytes(6 * MIB))
    with site.worker(STORAGE__CHECK_INTERVAL="0.1") as worker:
        (job_id,) = await site.publish(bill(1))
        await worker.logged("job.outage", code="STORAGE_FULL")
        await worker.logged("job.deferred", count=2)
        assert site.leftovers() == []
        ballast.unlink()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 1


@pytest.mark.parametrize(
    ("call", "number"),
    [("write", errno.EDQUOT), ("fsync", errno.ENOSPC), ("fsync", errno.EDQUOT), ("close", errno.EDQUOT)],
)
async def test_no_space_told_late(site: Site, failing_disk: Path, call: str, number: int) -> None:
    """Quotas and network file systems tell at write, fsync or close: no attempt is burned."""
    failing_disk.write_text(f"{call} {number}\n")
    with site.worker(STORAGE__CHECK_INTERVAL="0.1") as worker:
        (job_id,) = await site.publish(bill(1))
        await worker.logged("job.deferred", count=2)
        assert list(site.root.glob("*/*/*")) == []
        failing_disk.unlink()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 1


@pytest.mark.parametrize("call", ["write", "fsync", "close"])
async def test_a_disk_that_breaks(site: Site, failing_disk: Path, call: str) -> None:
    """EIO is tried again, and told when it stays."""
    failing_disk.write_text(f"{call} {errno.EIO}\n")
    with site.worker(RETRY__DELAYS="[0.05]"):
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()

    assert site.ledger.codes[job_id] == "STORAGE_ERROR"
    assert site.ledger.outcomes[job_id][0].attempts == 2
    assert (counts.sound, list(site.root.glob("*/*/*"))) == (True, [])


async def test_a_volume_that_turns_read_only(site: Site, volume: Path) -> None:
    """As after a disk's errors: intake waits until it is writable again."""
    with site.worker(STORAGE__CHECK_INTERVAL="0.1") as worker:
        await worker.readiness()
        mount("-o", "remount,ro", str(volume))
        job_ids = await site.publish(*(bill(number) for number in range(5)))
        checks = await worker.readiness(503)
        mount("-o", "remount,rw", str(volume))
        counts = await site.settled()

    assert "read-only" in checks["intake"]["detail"]
    assert (counts.completed, counts.sound) == (5, True)
    assert {site.ledger.outcomes[job_id][0].attempts for job_id in job_ids} == {1}


@pytest.fixture
def refusing(root: Path) -> Iterator[Callable[[bool], None]]:
    """Has the root, with all that is in it, refuse every change; statvfs does not show it."""

    def refuse(refuses: bool) -> None:
        subprocess.run(
            ["chattr", "-R", "+i" if refuses else "-i", str(root)], check=True, capture_output=True
        )

    try:
        refuse(True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no files can be made immutable here: that needs chattr, root and a file system that can")
    refuse(False)
    yield refuse
    refuse(False)


async def test_a_root_that_refuses_writes_unseen(site: Site, refusing: Callable[[bool], None]) -> None:
    """As an export that turns read-only, or squashes the user. statvfs shows nothing; nothing is burned."""
    with site.worker(STORAGE__CHECK_INTERVAL="0.1", RETRY__DELAYS="[0.05]") as worker:
        await site.publish(bill(1))
        await site.settled()
        refusing(True)
        job_ids = await site.publish(*(bill(number) for number in range(2, 32)))
        checks = await worker.readiness(503)
        assert f"nothing can be written to {site.root}: Operation not permitted" in checks["intake"]["detail"]
        assert await metric(worker, 'ccfs_worker_intake_paused{reason="storage"}') == 1
        assert "nothing can be written" in (await worker.logged("intake.paused"))["storage"]
        await worker.logged("job.deferred")
        refusing(False)
        counts = await site.settled()
        await worker.readiness()

    assert (counts.completed, counts.sound, hidden(site)) == (31, True, [])
    assert {site.ledger.outcomes[job_id][0].attempts for job_id in job_ids} == {1}


def hidden(site: Site) -> list[Path]:
    return list(site.root.rglob(".*"))


async def test_whatever_a_root_refuses_writes_with(site: Site, failing_disk: Path) -> None:
    """Intake pauses with the system's own words, and goes on when the volume takes files again."""
    with site.worker(STORAGE__CHECK_INTERVAL="0.1", RETRY__DELAYS="[0.05]") as worker:
        for day, number in enumerate(REFUSALS, 10):
            await worker.readiness()
            failing_disk.write_text(f"create {number}\n")
            await site.publish(bill(1, day=f"202601{day}"))
            checks = await worker.readiness(503)
            assert checks["intake"]["detail"].endswith(os.strerror(number))
            failing_disk.unlink()
            await site.settled()
        counts = await site.settled()

    assert (counts.completed, counts.sound, hidden(site)) == (len(REFUSALS), True, [])
    assert {outcome.attempts for (outcome,) in site.ledger.outcomes.values()} == {1}


REFUSALS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOSPC, errno.EDQUOT)


@pytest.mark.parametrize(
    ("hang_after", "event", "says"),
    [("3600", "intake.paused", os.strerror(errno.EIO)), ("1", "storage.hangs", "does not answer since")],
)
async def test_a_look_that_takes_its_time_burns_nothing(
    site: Site, failing_disk: Path, hang_after: str, event: str, says: str
) -> None:
    """As on a soft mount whose server is gone: calls end in errors, the look has not ended yet."""
    changes = {"STORAGE__HANG_AFTER": hang_after, "STORAGE__CHECK_INTERVAL": "0.1"}
    with site.worker(RETRY__DELAYS="[0.05]", **changes) as worker:
        await site.publish(bill(1))
        await site.settled()
        failing_disk.write_text(f"write {errno.EIO}\nfsync hang\n")
        (job_id,) = await site.publish(bill(2))
        await worker.logged(event)
        checks = await worker.readiness(503)
        assert says in checks["intake"]["detail"]
        failing_disk.unlink()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (2, True)
    assert site.ledger.outcomes[job_id][0].attempts == 1


@pytest.mark.parametrize("call", ["open", "create"])
async def test_a_stale_mount_says_that_the_pod_must_go(site: Site, failing_disk: Path, call: str) -> None:
    """No attempt is burned, and liveness fails where it is asked to."""
    with site.worker(
        STORAGE__CHECK_INTERVAL="0.1", STORAGE__RESTART_ON_STALE_MOUNT="true", RETRY__DELAYS="[0.05]"
    ) as worker:
        await worker.readiness()
        assert (await worker.get("/livez"))[0] == 200
        failing_disk.write_text(f"{call} {errno.ESTALE}\n")
        (job_id,) = await site.publish(bill(1))
        reason = (await worker.logged("storage.stale"))["reason"]
        checks = await worker.readiness(503)
        assert checks["intake"]["detail"].endswith(reason)
        assert reason == f"storage: the mount at {site.root} {STALE}"
        status, body = await worker.get("/livez")
        assert (status, json.loads(body)["detail"]) == (503, reason)
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    failing_disk.unlink()
    with site.worker():
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 1


STALE = "is stale (ESTALE): replace the pod, or mount the volume anew"


async def test_a_stale_mount_that_returns(site: Site, failing_disk: Path) -> None:
    """As a rule it does not. Liveness is not asked to fail for it."""
    with site.worker(STORAGE__CHECK_INTERVAL="0.1") as worker:
        await worker.readiness()
        failing_disk.write_text(f"open {errno.ESTALE}\n")
        await worker.logged("storage.stale")
        await worker.readiness(503)
        assert (await worker.get("/livez"))[0] == 200
        failing_disk.unlink()
        await worker.readiness()


async def test_no_worker_starts_on_a_stale_mount(site: Site, failing_disk: Path) -> None:
    failing_disk.write_text(f"stat {errno.ESTALE}\nopen {errno.ESTALE}\n")
    with site.worker() as worker:
        assert await worker.exited() == 2
        line = worker.log_file.read_text().splitlines()[-1]

    assert line == f"WORKER_STORAGE__ROOT: the mount at {site.root} {STALE}"


async def test_what_a_look_left_is_swept(site: Site) -> None:
    """By age, and only files of that very name, in the root alone."""
    name = f".ccfs-worker-look-{'0' * 32}"
    day = site.root / APP / "20260131"
    day.mkdir(parents=True)
    left = site.root / name
    others = (site.root / f"{name}.part", site.root / ".profile", day / name)
    young = site.root / f".ccfs-worker-look-{'1' * 32}"
    for file in (left, *others, young):
        file.touch()
    for file in (left, *others):
        os.utime(file, (time.time() - 3600,) * 2)

    with site.worker(JOB_TIMEOUT="60", STORAGE__STALE_AFTER="1800") as worker:
        await worker.logged("storage.swept", removed=1)

    assert [file.exists() for file in (left, *others, young)] == [False, True, True, True, True]


async def test_a_volume_that_vanishes_and_returns(site: Site, volume: Path) -> None:
    """Nothing is written to the disk below the mount point, where no other system would look for it."""
    with site.worker(STORAGE__CHECK_INTERVAL="0.1") as worker:
        await site.publish(bill(1))
        await site.settled()
        subprocess.run(["umount", str(volume)], check=True)
        job_ids = await site.publish(*(bill(number) for number in range(2, 6)))
        checks = await worker.readiness(503)
        assert list(volume.iterdir()) == []
        mount("-t", "tmpfs", "-o", f"size={VOLUME}", "tmpfs", str(volume))
        await site.until(lambda: not site.ledger.open_jobs)

    assert "not mounted" in checks["intake"]["detail"]
    assert {site.ledger.codes[job_id] for job_id in job_ids} == {""}
    assert {site.ledger.outcomes[job_id][0].attempts for job_id in job_ids} == {1}


async def test_what_a_dead_pod_left_is_swept(site: Site) -> None:
    """Only old temporary files of ours: young ones belong to a download that runs in another pod."""
    day = site.root / APP / "20260131"
    day.mkdir(parents=True)
    left, young, foreign = (
        day / f".{bill(1)}.{'0' * 32}.part",
        day / f".{bill(2)}.{'1' * 32}.part",
        day / ".profile",
    )
    for file in (left, young, foreign):
        file.write_bytes(b"PK")
    hour_ago = time.time() - 3600
    for file in (left, foreign):
        os.utime(file, (hour_ago, hour_ago))

    with site.worker(JOB_TIMEOUT="60", STORAGE__STALE_AFTER="1800") as worker:
        await worker.logged("storage.swept", removed=1)

    assert [file.exists() for file in (left, young, foreign)] == [False, True, True]


async def test_a_download_under_way_survives_the_sweep_of_another_pod(site: Site) -> None:
    half = HeldAnswer()
    site.simulator.plan = lambda _: half
    with site.worker("one"):
        await site.publish(bill(1))
        await half.reached.wait()
        with site.worker("two", JOB_TIMEOUT="60", STORAGE__STALE_AFTER="1800") as other:
            await other.readiness()
        half.release.set()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)


SILENT = {"STORAGE__HANG_AFTER": "1", "STORAGE__CHECK_INTERVAL": "0.1"}


@pytest.mark.parametrize("call", ["statvfs", "open", "mkdir", "write", "fsync", "rename"])
async def test_a_volume_that_hangs(site: Site, failing_disk: Path, call: str) -> None:
    """Whichever call it is that does not return: intake pauses, and resumes when it has."""
    with site.worker(**SILENT) as worker:
        await worker.readiness()
        failing_disk.write_text(f"{call} hang\n")
        (job_id,) = await site.publish(bill(1))
        since = (await worker.logged("storage.hangs"))["since"]
        checks = await worker.readiness(503)
        assert f"the volume does not answer since {since}" in checks["intake"]["detail"]
        assert (await status_of(worker))["freeBytes"] is None
        assert await metric(worker, "ccfs_worker_storage_silent_seconds") >= 1
        assert (await worker.get("/livez"))[0] == 200
        failing_disk.unlink()
        counts = await site.settled()
        await worker.readiness()
        assert (await status_of(worker))["freeBytes"] > 0

    assert (counts.completed, counts.sound, site.leftovers()) == (1, True, [])
    assert site.ledger.outcomes[job_id][0].attempts == 1


@pytest.mark.parametrize("deadline", ["60", "1.5"], ids=["silent", "deadline"])
async def test_a_key_directory_that_hangs(site: Site, failing_disk: Path, deadline: str) -> None:
    """Intake pauses, no attempt is counted, and all goes on when the directory answers."""
    hang_after = "1" if deadline == "60" else "30"
    with site.worker(STORAGE__HANG_AFTER=hang_after, JOB_TIMEOUT=deadline) as worker:
        await worker.readiness()
        failing_disk.write_text("key hang\n")
        (job_id,) = await site.publish(bill(1))
        since = (await worker.logged("keys.hang"))["since"]
        checks = await worker.readiness(503)
        assert checks["intake"]["detail"].endswith(f"the key directory does not answer since {since}")
        await worker.logged("job.deferred")
        failing_disk.unlink()
        counts = await site.settled()
        await worker.readiness()

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 1


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "rename"])
@pytest.mark.parametrize("simulator_options", [64 * 1024, 3 * MIB], indirect=True, ids=["small", "large"])
async def test_a_job_ends_by_its_deadline_while_its_call_hangs(
    site: Site, failing_disk: Path, call: str
) -> None:
    """Its thread is left behind, nothing comes of what it worked on, and no attempt is burned."""
    with site.worker(JOB_TIMEOUT="5", STORAGE__CHECK_INTERVAL="0.1") as worker:
        await worker.readiness()
        failing_disk.write_text(f"{call} hang\n")
        (job_id,) = await site.publish(bill(1))
        await worker.logged("job.outage", code="TIMEOUT")
        await worker.logged("job.deferred")
        assert await metric(worker, "ccfs_worker_storage_threads_left_behind") == 1
        await worker.readiness(503)
        failing_disk.unlink()
        counts = await site.settled()
        await worker.readiness()
        assert await metric(worker, "ccfs_worker_storage_threads_left_behind") == 0

    assert (counts.completed, counts.sound, site.leftovers()) == (1, True, [])
    assert site.ledger.outcomes[job_id][0].attempts == 1


@pytest.mark.parametrize("call", ["fsync", "all"])
@pytest.mark.parametrize("simulator_options", [64 * 1024, 3 * MIB], indirect=True, ids=["small", "large"])
async def test_sigterm_ends_a_worker_whose_volume_hangs(site: Site, failing_disk: Path, call: str) -> None:
    """Its jobs go back, connections and port are closed, and it leaves without its threads."""
    with site.worker(SHUTDOWN_GRACE="1", **SILENT) as worker:
        await worker.readiness()
        failing_disk.write_text(f"{call} hang\n")
        await site.publish(*(bill(number) for number in range(3)))
        await worker.logged("job.received", count=3)
        await worker.logged("storage.hangs")
        worker.signal(signal.SIGTERM)
        assert await worker.exited(patience=30) == 0
        events = [line["event"] for line in worker.lines()]
        assert await site.queue_length(site.names.jobs) == 3

    told = [name for name in events if name in ENDING]
    assert told == ["worker.draining", *["job.given_back"] * 3, "worker.stopped", "worker.left"]
    assert site.ledger.outcomes == {}
    failing_disk.unlink()
    with site.worker():
        counts = await site.settled()
    assert (counts.completed, counts.sound) == (3, True)


ENDING = {"worker.draining", "job.given_back", "worker.stopped", "worker.left"}


async def test_a_second_signal_ends_a_worker_whose_volume_hangs(site: Site, failing_disk: Path) -> None:
    with site.worker(SHUTDOWN_GRACE="3600", AMQP__CONSUMER_TIMEOUT="7200", **SILENT) as worker:
        await worker.readiness()
        failing_disk.write_text("all hang\n")
        await site.publish(bill(1))
        await worker.logged("storage.hangs")
        worker.signal(signal.SIGTERM)
        await worker.logged("worker.draining")
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 128 + signal.SIGTERM


async def test_a_worker_does_not_start_on_a_volume_that_hangs(site: Site, failing_disk: Path) -> None:
    """It says so in one line, instead of hanging as well."""
    failing_disk.write_text("all hang\n")
    with site.worker(**SILENT) as worker:
        assert await worker.exited() == 2
        line = worker.log_file.read_text().splitlines()[-1]

    assert line.startswith(f"WORKER_STORAGE__ROOT: {site.root}")
    assert "does not answer within 1 s" in line


async def test_sigterm_ends_a_worker_that_starts_on_a_hung_volume(site: Site, failing_disk: Path) -> None:
    failing_disk.write_text("all hang\n")
    with site.worker(STORAGE__HANG_AFTER="3600") as worker:
        await worker.logged("worker.looking")
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0


async def test_a_check_of_a_volume_that_hangs_ends(site: Site, failing_disk: Path) -> None:
    """As in the chart's init container."""
    failing_disk.write_text("all hang\n")
    checked = await asyncio.to_thread(
        command, CCFS_WORKER, "check", "--only", "storage", settings=site.settings(**SILENT)
    )

    assert checked.returncode == 1
    assert "hangs: no answer within 1 s" in checked.stdout


@pytest.mark.parametrize("call", ["rename", "mkdir", "unlink"])
@pytest.mark.parametrize("simulator_options", [64 * 1024, 3 * MIB], indirect=True, ids=["small", "large"])
async def test_a_call_that_was_done_and_is_answered_as_a_replay(
    site: Site, failing_disk: Path, call: str
) -> None:
    """A file server that lost its answer gives ENOENT or EEXIST to the repeated request."""
    failing_disk.write_text(f"{call} replayed\n")
    with site.worker():
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()

    assert (counts.completed, counts.sound, site.leftovers()) == (1, True, [])
    assert site.ledger.outcomes[job_id][0].attempts == 1


async def test_a_volume_that_folds_case_is_refused(site: Site, failing_disk: Path) -> None:
    """Account App1 would be told that app1's file is its own: neither the worker nor `check` takes it."""
    failing_disk.write_text("names folded\n")
    with site.worker() as worker:
        assert await worker.exited() == 2
        line = worker.log_file.read_text().splitlines()[-1]
    checked = await asyncio.to_thread(
        command, CCFS_WORKER, "check", "--only", "storage", settings=site.settings()
    )

    assert line.startswith(f"WORKER_STORAGE__ROOT: {site.root} takes upper and lower case for the same")
    assert (checked.returncode, line in checked.stdout) == (1, True)
    assert list(site.root.iterdir()) == []


async def test_a_volume_that_folds_case_and_comes_later_pauses_intake(
    site: Site, volume: Path, failing_disk: Path
) -> None:
    """Nothing is found on it, and nothing put there."""
    with site.worker(STORAGE__CHECK_INTERVAL="0.1") as worker:
        await worker.readiness()
        failing_disk.write_text("names folded\n")
        mount("-t", "tmpfs", "-o", f"size={VOLUME}", "tmpfs", str(volume))
        await site.publish(bill(1))
        checks = await worker.readiness(503)
        assert "upper and lower case" in checks["intake"]["detail"]
        # Beside the hidden trial that says so.
        assert list(volume.glob("[!.]*")) == []
        subprocess.run(["umount", str(volume)], check=True)
        failing_disk.unlink()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)


async def test_a_root_that_has_to_be_a_mount_point(site: Site, volume: Path) -> None:
    """It is refused while it is none, at start and later."""
    subprocess.run(["umount", str(volume)], check=True)
    required = {"STORAGE__REQUIRE_MOUNT": "true", "STORAGE__CHECK_INTERVAL": "0.1"}
    with site.worker("early", **required) as worker:
        assert await worker.exited() == 2
        line = worker.log_file.read_text().splitlines()[-1]
    mount("-t", "tmpfs", "-o", f"size={VOLUME}", "tmpfs", str(volume))
    with site.worker(**required) as worker:
        await worker.readiness()
        subprocess.run(["umount", str(volume)], check=True)
        checks = await worker.readiness(503)

    assert line.startswith(f"WORKER_STORAGE__ROOT: {site.root} is no mount point")
    assert "not mounted" in checks["intake"]["detail"]


async def status_of(worker: WorkerProcess) -> dict[str, Any]:
    """What a worker says of its storage."""
    _, body = await worker.get("/status")
    storage: dict[str, Any] = json.loads(body)["storage"]
    return storage


async def metric(worker: WorkerProcess, name: str) -> float:
    """The value of a metric."""
    _, text = await worker.get("/metrics")
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
