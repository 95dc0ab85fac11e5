"""A lab for each experiment."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from devkit.run.broker import Broker
from devkit.run.queues import declared
from tests.installation import Site, collecting
from tests.vm import rows
from tests.vm.disk import Disk, new_image
from tests.vm.lab import TIERS, Lab
from worker.broker import Names, Topology
from worker.simulator import Range, SimulatorOptions, open_simulator

_SIZES = (Range(20 * 1024, 200 * 1024), Range(200 * 1024, 2 * 1024**2))
_LATENCY = Range(0.05, 0.3)
_DELIVERY_LIMIT = 100


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[rows.Row], None]:
    """Prints and keeps what came of an experiment."""
    if rows.FILE not in os.environ:
        pytest.fail("these tests need a machine: run `make test-powercut` or `make test-nfs`", pytrace=False)

    def tell(row: rows.Row) -> None:
        rows.write(Path(os.environ[rows.FILE]), row)
        with capsys.disabled():
            print(f"\n{', '.join(f'{head} {cell}' for head, cell in row.items())}", flush=True)

    return tell


@pytest.fixture
async def lab(rabbitmq: Broker, names: Names, keys: Path, root: Path, tmp_path: Path) -> AsyncIterator[Lab]:
    """An installation whose machine has no power yet."""
    topology = Topology(names=names, tiers=TIERS, delivery_limit=_DELIVERY_LIMIT)
    options = SimulatorOptions(keys=keys, plain=True, sizes=_SIZES, latency=_LATENCY, history=1000)
    async with open_simulator(options) as simulator, declared(rabbitmq.url, topology):
        site = Site(
            url=rabbitmq.url,
            own_url=rabbitmq.url,
            names=names,
            simulator=simulator,
            folder=tmp_path,
            root=root,
            keys=keys,
        )
        async with collecting(site):
            yield Lab(site, Disk(new_image(tmp_path / "disk.img")))
