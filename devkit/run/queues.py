"""Declare queues and exchanges on a shared broker, and remove them afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika

from worker.broker import Topology
from worker.broker.topology import declare

_TIMEOUT = 10.0


@asynccontextmanager
async def declared(url: str, topology: Topology) -> AsyncIterator[None]:
    """Declare everything that a worker would, and remove it afterwards with all that it holds.

    Args:
        url: The broker.
        topology: What is declared.

    Yields:
        Nothing.
    """
    async with await aio_pika.connect(url) as connection:
        await declare(connection, topology, passive=False, timeout=_TIMEOUT)
    try:
        yield
    finally:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            for queue in topology.queues():
                await channel.queue_delete(queue)
            await channel.exchange_delete(topology.names.results)
            await channel.exchange_delete(topology.names.dead_letter_exchange)
