"""What every test may use."""

import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from devkit.run import ports
from devkit.run.broker import Broker, open_broker
from devkit.run.queues import declared
from tests.ccfs.authority import Authority
from tests.ccfs.samples import NOW, OpenClient
from tests.installation import APP, DELIVERY_LIMIT, Site, collecting
from worker.broker import Names, Topology
from worker.ccfs import CcfsClient, open_client
from worker.simulator import Range, SimulatorOptions, open_simulator
from worker.storage import SharedStorage, Threads

# A shell makes what it runs in the background deaf to SIGINT, and children inherit that; tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test depends on speed. Everything else stays as hypothesis has it, which on CI draws the same each time.
hypothesis.settings.register_profile(
    "unhurried",
    hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]),
)
hypothesis.settings.load_profile("unhurried")


# Under xdist. More processes than that share ports, which then meet once in thousands of starts.
ports.keep_to(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")), 4)

_BROKER_FIXTURES = {"rabbitmq", "broker_url", "node"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need RabbitMQ, so that they can be run on several versions of it."""
    for item in items:
        if _BROKER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("broker")


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Broker]:
    """The run's one broker: that of `AMQP`, else a private node, started when first asked for."""
    with open_broker() as broker:
        yield broker


@pytest.fixture
def prefix() -> str:
    """The start of the test's own queue and exchange names, since all tests share one broker."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def names(prefix: str) -> Names:
    """Queues and exchanges of the test's own."""
    return Names(
        jobs=f"{prefix}.jobs",
        results=f"{prefix}.results",
        results_queue=f"{prefix}.results",
        dead=f"{prefix}.dead",
        failed=f"{prefix}.failed",
    )


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The key directory, with one account."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / APP).write_text("secret\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The storage root."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def executor() -> Iterator[Threads]:
    """The threads of the storage."""
    with Threads(2) as threads:
        yield threads


@pytest.fixture
def storage(root: Path, executor: Threads) -> SharedStorage:
    """A storage in this process, on the test's storage root."""
    return SharedStorage(root, executor, max_file_bytes=64 * 1024**2, min_free_bytes=0)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """What signs the certificates of the tests' own servers."""
    return Authority()


@pytest.fixture
def client_for() -> OpenClient:
    """Opens a client of CC-FS whose timeouts never strike, unless the test sets others."""

    @asynccontextmanager
    async def open_one(base_url: str, **options: Any) -> AsyncIterator[CcfsClient]:
        defaults: dict[str, Any] = {"clock": lambda: NOW, "connect_timeout": 60, "idle_timeout": 60}
        async with open_client(base_url=base_url, **{**defaults, **options}) as client:
            yield client

    return open_one


@pytest.fixture
def simulator_options(keys: Path, tmp_path: Path, request: pytest.FixtureRequest) -> SimulatorOptions:
    """Files of 64 KiB, or of the size that the test asks for."""
    size = getattr(request, "param", 64 * 1024)
    return SimulatorOptions(keys=keys, state=tmp_path / "simulator", sizes=(Range(size, size),))


@pytest.fixture
def broker_url(rabbitmq: Broker) -> str:
    """Where tests reach the broker of their site."""
    return rabbitmq.url


@pytest.fixture
def worker_broker_url(broker_url: str) -> str:
    """Where the workers of a site reach it; differs where a proxy stands in between."""
    return broker_url


@pytest.fixture
async def site(
    broker_url: str,
    worker_broker_url: str,
    names: Names,
    simulator_options: SimulatorOptions,
    tmp_path: Path,
    root: Path,
    keys: Path,
) -> AsyncIterator[Site]:
    """An installation, with nothing running in it but broker and CC-FS."""
    # The job queue is there before any worker, as publishers expect.
    topology = Topology(names=names, tiers=(0.2, 0.4, 0.8), delivery_limit=DELIVERY_LIMIT)
    async with open_simulator(simulator_options) as simulator, declared(broker_url, topology):
        made = Site(
            url=worker_broker_url,
            own_url=broker_url,
            names=names,
            simulator=simulator,
            folder=tmp_path,
            root=root,
            keys=keys,
        )
        async with collecting(made):
            yield made
