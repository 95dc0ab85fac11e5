"""A site whose broker is the test module's own to break, with a proxy on the way to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devkit.run.rabbitmq import PrivateRabbitMQ
from tests.faults.node import own_node
from tests.faults.preload import build
from tests.faults.proxy import Proxy, open_proxy


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateRabbitMQ]:
    """A node for the module's tests."""
    with own_node() as running:
        yield running


@pytest.fixture
async def broker_url(node: PrivateRabbitMQ) -> str:
    await asyncio.to_thread(node.start)
    return node.url


@pytest.fixture
async def amqp(node: PrivateRabbitMQ) -> AsyncIterator[Proxy]:
    """The line between workers and broker."""
    address = urlsplit(node.url)
    async with open_proxy(address.hostname or "", address.port or 0) as proxy:
        yield proxy


@pytest.fixture
def worker_broker_url(amqp: Proxy) -> str:
    return f"amqp://guest:guest@127.0.0.1:{amqp.port}/"


@pytest.fixture(scope="session")
def failing_disk_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls on the storage fail or hang."""
    library = build("failing_disk", tmp_path_factory.mktemp("failing_disk"))
    if library is None:
        pytest.skip("making system calls fail needs a C compiler")
    return library


@pytest.fixture
def failing_disk(failing_disk_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The switch of `failing_disk.c` for workers started from here on: a file that is not there yet."""
    switch = tmp_path / "failing_disk"
    monkeypatch.setenv("LD_PRELOAD", str(failing_disk_library))
    monkeypatch.setenv("FAILING_DISK", str(switch))
    return switch
