"""A broker that tests may break."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devkit.run import server
from devkit.run.rabbitmq import PrivateRabbitMQ, TlsFiles


@contextmanager
def own_node(tls: TlsFiles | None = None) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node that tests may stop, kill and starve."""
    if "AMQP" in os.environ and server.find() is None:
        pytest.skip("needs a RabbitMQ server on this machine")
    with PrivateRabbitMQ(tls=tls) as running:
        yield running
