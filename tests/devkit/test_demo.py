"""The demo as a process: it shows what it should, and leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devkit.demo.__main__ import served
from devkit.demo.workload import COMPLETED, make_jobs
from devkit.run import server
from devkit.run.broker import Broker
from schemas import DownloadJob, ErrorCode

PATIENCE = 100.0
ALL = 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a demo makes its temporary folders."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def start(folder: Path, jobs: int, **environment: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "AMQP"}
    return subprocess.Popen(
        [sys.executable, "-m", "devkit.demo", "--jobs", str(jobs)],
        env=inherited | {"TMPDIR": str(folder), "COLUMNS": "160"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_of(folder: Path) -> list[str]:
    """The live processes that have the folder in their environment; a dead one not yet reaped has none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_job_of_the_demo_ends_as_it_shows(folder: Path, rabbitmq: Broker) -> None:
    """On the user's own broker, which has none of the demo's queues afterwards."""
    demo = start(folder, 60, AMQP=rabbitmq.url)
    output, _ = demo.communicate(timeout=PATIENCE)

    assert demo.returncode == 0, output
    assert "lost 0, duplicated 0, unexpected 0, partial 0" in output
    assert "each the same as at CC-FS by SHA-256" in output
    for code in (COMPLETED, ErrorCode.FILE_NOT_FOUND, ErrorCode.UNKNOWN_APP, ErrorCode.INVALID_JOB):
        assert code in output
    assert not processes_of(folder)
    assert not list(folder.iterdir())
    if rabbitmq.node is not None:
        assert "ccfs.demo." not in rabbitmq.node.rabbitmqctl("list_queues", "name")
        assert "ccfs.demo." not in rabbitmq.node.rabbitmqctl("list_exchanges", "name")


@pytest.mark.broker
@pytest.mark.skipif(server.find() is None, reason="needs a RabbitMQ server on this machine")
def test_ctrl_c_leaves_nothing_behind(folder: Path) -> None:
    """A terminal tells the demo and all that it started in its group, and the impatient press twice."""
    demo = start(folder, 5000)
    wait_for(lambda: list(folder.glob("ccfs-demo-*/files/*/*/*.zip")))
    assert processes_of(folder)
    os.killpg(demo.pid, signal.SIGINT)
    os.killpg(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=PATIENCE)

    assert demo.returncode == 130, output
    assert "Interrupted; nothing is left running." in output
    assert "Traceback" not in output
    assert not processes_of(folder)
    assert not list(folder.iterdir())


@pytest.mark.broker
@pytest.mark.skipif(server.find() is None, reason="needs a RabbitMQ server on this machine")
def test_a_killed_demo_leaves_nothing_running(folder: Path) -> None:
    demo = start(folder, 5000)
    wait_for(lambda: list(folder.glob("ccfs-demo-*/files/*/*/*.zip")))
    demo.kill()
    demo.communicate(timeout=PATIENCE)

    wait_for(lambda: not processes_of(folder))


def test_an_unreachable_broker_is_one_clear_line(folder: Path) -> None:
    demo = start(folder, 10, AMQP="amqp://someone:secret@127.0.0.1:1/")
    output, _ = demo.communicate(timeout=PATIENCE)

    assert demo.returncode == 1
    (line,) = output.splitlines()
    assert line.startswith("No broker answers at 127.0.0.1:1, which AMQP names:")
    assert not list(folder.iterdir())


def test_the_demos_faults_are_of_all_kinds_and_all_pass(tmp_path: Path) -> None:
    """Its seed is chosen so: nobody shall wait for a fourth attempt, or miss a fault that it speaks of."""
    options = served(tmp_path)
    seen = set()
    for job in make_jobs(ALL):
        if job.expected == COMPLETED:
            asked = DownloadJob.model_validate_json(job.body)
            drawn = [options.fault_of(asked.app_id, asked.bill_file_name, count) for count in (1, 2, 3)]
            assert None in drawn
            seen |= {fault.name for fault in drawn[: drawn.index(None)] if fault}

    assert seen == {fault.fault.name for fault in options.faults}
