"""A site whose broker is the test module's own to break, with a proxy on the way to it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from devkit import server
from devkit.rabbitmq import PrivateRabbitMQ
from tests.faults.proxy import Proxy, open_proxy


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node that the module's tests may stop, kill and starve."""
    if "AMQP" in os.environ and server.find() is None:
        pytest.skip("needs a RabbitMQ server on this machine")
    with PrivateRabbitMQ() as running:
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
