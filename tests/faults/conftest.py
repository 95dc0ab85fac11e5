"""A site whose broker is the test module's own to break, with a proxy on the way to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from devkit.rabbitmq import PrivateRabbitMQ
from tests.faults.node import own_node
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
