"""The cluster that the faults meet, formed once, and a lab for each of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from devkit.run.queues import declared
from devkit.run.rabbitmq import TlsFiles
from tests.cluster import apart, net, rows
from tests.cluster.balancer import open_balancer
from tests.cluster.cluster import SIZE, Cluster
from tests.cluster.lab import Lab
from tests.installation import Site, collecting
from worker.broker import Names, Topology
from worker.simulator import Range, SimulatorOptions, open_simulator

_SIZES = (Range(20 * 1024, 200 * 1024),)
_LATENCY = Range(0.3, 2.0)
_DELIVERY_LIMIT = 20


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where rows and logs go."""
    folder = apart.current_folder()
    if folder is None:
        pytest.fail("these tests need namespaces of their own: run `make test-cluster`", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Certificates for the nodes, which clients reach by the balancer's address."""
    made, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    files = TlsFiles(made / "ca.pem", made / "cert.pem", made / "key.pem")
    authority.cert_pem.write_to_path(files.ca)
    files.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="session")
def any_cluster(folder: Path, tls: TlsFiles) -> Iterator[Cluster]:
    """The cluster, in whatever state it is."""
    net.build(SIZE)
    cluster = Cluster(logs=folder, tls=tls)
    try:
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
async def cluster(any_cluster: Cluster) -> Cluster:
    """The cluster that the last test has left, or a new one where that one is not whole."""
    fit, any_cluster.fit = any_cluster.fit, False
    if fit:
        with suppress(RuntimeError):
            await asyncio.to_thread(any_cluster.gather)
            return any_cluster
    await asyncio.to_thread(any_cluster.form)
    return any_cluster


@pytest.fixture
def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[rows.Row], None]:
    """Prints and keeps what came of a fault."""

    def tell(row: rows.Row) -> None:
        rows.write(folder / rows.FILE, row)
        with capsys.disabled():
            print(f"\n{row}", flush=True)

    return tell


@pytest.fixture
async def lab(
    cluster: Cluster,
    names: Names,
    keys: Path,
    root: Path,
    tmp_path: Path,
    report: Callable[[rows.Row], None],
) -> AsyncIterator[Lab]:
    """An installation on the cluster, with queues of its own and no worker yet."""
    topology = Topology(names=names, tiers=(0.2, 0.4, 0.8), delivery_limit=_DELIVERY_LIMIT)
    options = SimulatorOptions(keys=keys, plain=True, sizes=_SIZES, latency=_LATENCY, history=1000)
    async with (
        open_balancer(cluster.addresses) as balancer,
        open_balancer(cluster.addresses) as upstream,
        open_simulator(options) as simulator,
        declared(upstream.url, topology),
    ):
        site = Site(
            url=balancer.url,
            own_url=f"{upstream.url}?heartbeat=4",
            names=names,
            simulator=simulator,
            folder=tmp_path,
            root=root,
            keys=keys,
        )
        async with collecting(site):
            yield Lab(cluster, balancer, site, report)
