"""Dependencies that are slow or silent: the worker says so, others go on, and its end waits for none."""

import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from devkit.run.rabbitmq import PrivateRabbitMQ, TlsFiles
from devkit.run.worker_process import WorkerProcess
from tests.faults.node import own_node
from tests.faults.preload import build
from tests.faults.proxy import Proxy, open_proxy
from tests.faults.silence import ROWS, Row, nothing, table
from tests.faults.silence_bench import OTHER, Bench, Reader, until
from tests.installation import Site

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
END_WITHIN = 10.0
"""Seconds from SIGTERM to the end, on a machine that may be busy; the promise is 5.5."""
_SAMPLE = re.compile(r"(?P<name>\S+) (?P<comparison>==|>) (?P<value>\d+)")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """How the node shows itself over TLS."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    server = authority.issue_cert("localhost")
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(files.ca)
    files.cert.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="module")
def node(tls: TlsFiles) -> Iterator[PrivateRabbitMQ]:
    """A node that listens over TLS, too."""
    with own_node(tls) as running:
        yield running


@pytest.fixture(scope="session")
def deaf_resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = build("deaf_resolver", tmp_path_factory.mktemp("deaf_resolver"))
    if library is None:
        pytest.skip("making a lookup hang needs a C compiler")
    return library


@pytest.fixture
def resolver(
    deaf_resolver: Path, failing_disk_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The switch of `deaf_resolver.c` for workers started from here on."""
    switch = tmp_path / "deaf_resolver"
    monkeypatch.setenv("LD_PRELOAD", f"{failing_disk_library}:{deaf_resolver}")
    monkeypatch.setenv("DEAF_RESOLVER", str(switch))
    return switch


@pytest.fixture
async def bench(
    site: Site,
    node: PrivateRabbitMQ,
    tls: TlsFiles,
    amqp: Proxy,
    failing_disk: Path,
    resolver: Path,
) -> AsyncIterator[Bench]:
    ccfs, amqps = urlsplit(site.simulator.url), urlsplit(node.tls_url or "")
    site.add_key(OTHER, "secret")
    log = Reader(site.folder / "worker.log")
    async with (
        open_proxy(ccfs.hostname or "", ccfs.port or 0) as ccfs_line,
        open_proxy("127.0.0.1", amqps.port or 0) as amqps_line,
    ):
        made = Bench(
            site=site,
            amqp=amqp,
            amqps=amqps_line,
            amqp_ca=tls.ca,
            ccfs=ccfs_line,
            disk=failing_disk,
            resolver=resolver,
            log=log,
        )
        try:
            yield made
        finally:
            made.running.kill()
            log.close()


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.awaited, marks=[pytest.mark.whole] * row.whole) for row in ROWS]
)
async def test_silence(row: Row, bench: Bench) -> None:
    """It shows while it lasts; then each job is done once. SIGTERM in another one ends the worker in time."""
    worker = bench.worker(row.settings(bench), row.variables(bench))
    if not row.from_start:
        worker.start()
        await worker.readiness()
        await bench.done()
    async with met(row, bench):
        pass
    counts = await bench.site.settled()
    await worker.readiness()
    assert (counts.sound, counts.duplicated) == (True, 0)

    # What is met without a job is waited for from the start on: SIGTERM comes before the bound.
    async with met(row, bench, until_told=not (row.from_start and row.meet is nothing)):
        worker.signal(signal.SIGTERM)
        assert await worker.exited(END_WITHIN) == 0
        if row.signs.check == "intake":
            assert "intake.resumed" not in last_words(worker)
    await bench.accounted_for()


def last_words(worker: WorkerProcess) -> list[str]:
    """The events that it logged from SIGTERM on."""
    events = [line["event"] for line in worker.lines()]
    return events[events.index("worker.draining") :]


@asynccontextmanager
async def met(row: Row, bench: Bench, *, until_told: bool = True) -> AsyncIterator[None]:
    """The worker in a silence, which it has noticed unless that is not waited for."""
    worker = bench.running
    before = 0 if row.from_start else logged(worker, row)
    async with row.silence(bench):
        if row.from_start:
            worker.kill()
            worker.start()
            await worker.logged("worker.started")
        await row.meet(bench)
        if until_told:
            await until(
                lambda: told(worker, row, before), f"the worker does not say as documented: {row.cells}"
            )
        if row.others_go_on:
            await bench.done(OTHER)
        yield


def logged(worker: WorkerProcess, row: Row) -> int:
    return sum(line["event"] == row.signs.log for line in worker.lines())


async def told(worker: WorkerProcess, row: Row, before: int) -> bool:
    """Whether readiness, metrics and log say what the row has."""
    if row.signs.log and logged(worker, row) < before + row.signs.lines:
        return False
    return await says(worker, row) and await measures(worker, row)


async def says(worker: WorkerProcess, row: Row) -> bool:
    status, body = await worker.get("/readyz")
    if not row.signs.check:
        return status == 200
    return status == 503 and row.signs.says in json.loads(body)["checks"][row.signs.check]["detail"]


async def measures(worker: WorkerProcess, row: Row) -> bool:
    if not row.signs.metric:
        return True
    _, metrics = await worker.get("/metrics")
    wanted = _SAMPLE.fullmatch(row.signs.metric)
    assert wanted, row.signs.metric
    start = f"ccfs_worker_{wanted['name']} "
    found = next((float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(start)), None)
    if found is None:
        return False
    value = float(wanted["value"])
    return found == value if wanted["comparison"] == "==" else found > value


def test_the_document_has_the_rows_that_are_tested() -> None:
    """All of them, in the same words, and no other."""
    section = PAGE.read_text().partition("\n## Silence\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert "\n".join(lines) == table(), f"put this into {PAGE.name}:\n{table()}"
