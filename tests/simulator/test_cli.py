"""`ccfs-worker simulate`, as a process and as a command line."""

import asyncio
import hashlib
import json
import os
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession

from schemas import DownloadJob
from tests.commands import CCFS_WORKER
from worker.ccfs import CcfsClient, open_client
from worker.ccfs.keys import KeyDirectory
from worker.cli import main
from worker.cli.simulator_state import ENV_FILE
from worker.net.tls import client_context
from worker.simulator import Fault, fault_specs, faults, parse_fault


@dataclass
class Running:
    """A simulator's process, and the settings for a worker that it printed."""

    process: Process
    settings: dict[str, str]


@asynccontextmanager
async def simulating(state: Path, *arguments: str, **variables: str) -> AsyncIterator[Running]:
    command = Path(sys.executable).with_name("ccfs-worker")
    process = await asyncio.create_subprocess_exec(
        command,
        "simulate",
        "--port",
        "0",
        "--state",
        state,
        *arguments,
        stdout=PIPE,
        env=os.environ | variables,
    )
    assert process.stdout is not None
    try:
        while not (line := await process.stdout.readline()).startswith(b"(also in"):
            assert line, "it ended"
        lines = (state / ENV_FILE).read_text().splitlines()
        yield Running(process, dict(shlex.split(line)[0].split("=", 1) for line in lines))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def client_of(running: Running) -> AsyncIterator[CcfsClient]:
    async with open_client(
        base_url=running.settings["WORKER_CCFS__BASE_URL"],
        clock=lambda: datetime.now(UTC),
        connect_timeout=10,
        idle_timeout=60,
        tls=client_context(ca_file=Path(running.settings["WORKER_CCFS__CA_FILE"])),
    ) as client:
        yield client


async def download(running: Running, name: str = "20260102_a.zip") -> tuple[int, str]:
    """Fetch a file as a worker with those settings would: its size and its SHA-256."""
    key = KeyDirectory(Path(running.settings["WORKER_CREDENTIALS__DIR"])).read("app1")
    size, digest = 0, hashlib.sha256()
    async with (
        client_of(running) as client,
        client.open(DownloadJob(app_id="app1", bill_file_name=name), key) as stream,
    ):
        async for chunk in stream.chunks:
            size += len(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def peak_memory(pid: int) -> int:
    """The highest resident size of a process so far, in bytes (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak) * 1024


async def test_it_serves_a_worker_with_the_settings_it_names(tmp_path: Path) -> None:
    """Keys, certificate and files are the same after a restart."""
    async with simulating(tmp_path / "state", "--size", "100KiB") as running:
        first = await download(running)
    async with simulating(tmp_path / "state", "--size", "100KiB", "--quiet") as running:
        assert await download(running) == first
    assert first[0] == 100 * 1024


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_and_its_settings_file(tmp_path: Path, number: signal.Signals) -> None:
    async with simulating(tmp_path) as running:
        running.process.send_signal(number)

        assert await running.process.wait() == 0
        assert not (tmp_path / ENV_FILE).exists()


async def test_as_json_it_says_first_where_it_is(tmp_path: Path) -> None:
    """Then each request is a line."""
    process = await asyncio.create_subprocess_exec(
        CCFS_WORKER, "simulate", "--plain", "--port", "0", "--state", tmp_path, "-o", "json", stdout=PIPE
    )
    assert process.stdout is not None
    try:
        told = json.loads(await process.stdout.readline())
        async with ClientSession() as session:
            await session.post(told["url"])
        answered = json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.communicate()

    assert told["settings"]["WORKER_CCFS__BASE_URL"] == told["url"]
    assert told["envFile"] == str(tmp_path / ENV_FILE)
    assert answered["event"] == "simulator.answered"


async def test_a_large_file_is_sent_in_bounded_memory(tmp_path: Path) -> None:
    size = 256 * 1024**2
    async with simulating(tmp_path, "--size", "256MiB", "--stored") as running:
        assert (await download(running))[0] == size
        assert peak_memory(running.process.pid) < size / 2


@pytest.mark.parametrize(
    ("spec", "fault", "rate"),
    [
        ("0300008:0.1", faults.ResultCode(code="0300008"), 0.1),
        ("http-503:1", faults.StatusCode(status=503), 1),
        ("http-429,retry-after=5:0.05", faults.StatusCode(status=429, retry_after=5), 0.05),
        ("http-429,retry-date=5:5e-3", faults.StatusCode(status=429, retry_date=5), 0.005),
        ("reset:0.01", faults.Reset(), 0.01),
        ("reset-body,at=0.9:0.01", faults.ResetBody(at=0.9), 0.01),
        ("waf,status=502:0.5", faults.Waf(status=502), 0.5),
    ],
)
def test_a_fault_is_read_from_its_description(spec: str, fault: Fault, rate: float) -> None:
    parsed = parse_fault(spec)

    assert (parsed.fault, parsed.rate) == (fault, rate)


@pytest.mark.parametrize("kind", [name for name in fault_specs.KINDS if name.islower()])
def test_every_kind_of_fault_can_be_told_by_its_name(kind: str) -> None:
    assert parse_fault(f"{kind}:0.5").fault.name.startswith(kind.removesuffix("-STATUS"))


def test_the_kinds_of_faults_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--list-faults"])

    assert ended.value.code == 0
    told = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[1:2].strip()}
    assert set(fault_specs.KINDS) <= told


def test_the_kinds_of_faults_are_there_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--list-faults", "-o", "json"])

    told = {kind["kind"]: kind for kind in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(told) == set(fault_specs.KINDS)
    assert told["waf"]["options"] == {"status": "403"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fault", "reset"], "--fault: reset: must be KIND:RATE, such as 0300008:0.1"),
        (["--fault", "reset:2"], "--fault: reset:2: the rate must be a number above 0 and up to 1"),
        (["--fault", "reset:x"], "--fault: reset:x: the rate must be a number above 0 and up to 1"),
        (["--fault", "rest:0.1"], "--fault: rest:0.1: rest is no kind of fault; there are a result code"),
        (["--fault", "http-999:0.1"], "--fault: http-999:0.1: status: input should be less than"),
        (["--fault", "reset,at=1:0.1"], "--fault: reset,at=1:0.1: at is no option of this kind; it has none"),
        (["--fault", "stall,at=2:0.1"], "--fault: stall,at=2:0.1: at: input should be less than"),
        (["--fault", "drip,rate=x:0.1"], "--fault: drip,rate=x:0.1: rate: input should be a valid number"),
        (
            ["--fault", "reset:0.6", "--fault", "stall:0.6"],
            "the rates of all faults together must",
        ),
        (["--size", "big"], "--size: big: must be a size such as"),
        (["--size", "1KiB"], "--size: 1KiB: no file can have less than 4096 bytes"),
        (["--size", "2MiB-1MiB"], "--size: 2MiB-1MiB: a range goes from the smaller to the larger"),
        (["--size", "1MiB:x"], "--size: x: must be a number, 0 or more"),
        (["--latency", "soon"], "--latency: soon: must be a number, 0 or more"),
        (["--latency", "0-1"], "--latency: 0-1: a range must begin above 0"),
        (["--bandwidth", "0"], "--bandwidth: 0: must be a size such as"),
        (["--keys", "/nowhere"], "--keys: /nowhere is no directory; it must hold one file per appId"),
        (["--host", "192.0.2.1"], "--host, --port, --state: cannot serve 192.0.2.1:8443"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--state", str(tmp_path), *arguments])

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(complaint)


def test_a_state_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--state", str(tmp_path / "file")])

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--state: cannot keep keys in ")


@pytest.fixture
def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the worker is installed without its extra `simulator`."""
    monkeypatch.delitem(sys.modules, "worker.simulator.certificate", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography", None)


@pytest.mark.usefixtures("without_cryptography")
def test_without_its_extra_it_ends_with_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--port", "0", "--state", str(tmp_path)])

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cryptography" in line
    assert line.endswith(": install ccfs-worker[simulator], or use --plain")


async def test_without_its_extra_it_serves_plain_http(tmp_path: Path) -> None:
    shadow = tmp_path / "cryptography"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("raise ModuleNotFoundError('it is not here')\n")
    async with simulating(tmp_path / "state", "--plain", PYTHONPATH=str(tmp_path)) as running:
        assert running.settings["WORKER_CCFS__BASE_URL"].startswith("http://")
