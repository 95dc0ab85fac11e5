"""Put the benchmark's jobs into the broker, and count and read its results."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from pamqp.common import FieldTable

from worker.broker.topology import Names, Topology, declare

RESULTS = "ccfs.results"

_TIMEOUT = 30.0
_POLL = 0.01


@asynccontextmanager
async def open_queues(url: str) -> AsyncIterator["Queues"]:
    """Open the connection, with the results' exchange and queue declared."""
    async with await aio_pika.connect(url) as connection:
        names = Names(jobs="bench.unused", dead="bench.unused.dead", failed=None)
        await declare(
            connection, Topology(names=names, tiers=(), delivery_limit=20), passive=False, timeout=_TIMEOUT
        )
        yield Queues(connection, await connection.channel())


class Queues:
    """Made by `open_queues`."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        self._connection = connection
        self._channel = channel

    async def add_jobs(self, queue: str, arguments: FieldTable, jobs: Iterable[tuple[str, str]]) -> None:
        """Make a queue and put jobs into it. Returns once the broker has them all."""
        async with self._connection.channel(publisher_confirms=False) as channel:
            await channel.declare_queue(queue, durable=True, arguments=arguments)
            count = 0
            for app_id, bill_file_name in jobs:
                body = json.dumps({"appId": app_id, "billFileName": bill_file_name}).encode()
                message = aio_pika.Message(
                    body, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                )
                await channel.default_exchange.publish(message, queue)
                count += 1
            while await self._depth(channel, queue) < count:  # noqa: ASYNC110 - the broker has no event for it
                await asyncio.sleep(_POLL)

    async def results(self) -> int:
        """How many results there are."""
        return await self._depth(self._channel, RESULTS)

    async def read_results(self, count: int) -> list[dict[str, Any]]:
        """Read that many results, which must be there; they stay in the queue."""
        results: list[dict[str, Any]] = []
        async with self._connection.channel() as channel:
            await channel.set_qos(prefetch_count=count)
            queue = await channel.get_queue(RESULTS, ensure=False)
            async with queue.iterator() as messages:
                async for message in messages:
                    results.append(json.loads(message.body))
                    if len(results) == count:
                        break
        return results

    async def clear(self, *queues: str) -> None:
        """Remove queues of jobs, and empty the results."""
        async with self._connection.channel() as channel:
            for name in queues:
                await channel.queue_delete(name)
            await (await channel.get_queue(RESULTS, ensure=False)).purge()

    async def _depth(self, channel: AbstractChannel, queue: str) -> int:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0
