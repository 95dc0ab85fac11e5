"""A limit: what the broker and aio-pika cost when nothing is downloaded.

Consumes, publishes a result mandatory, persistent and confirmed, acknowledges; on the worker's event loop.
"""

import asyncio
import json
import os
from functools import partial

import aio_pika
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

_EVENT = json.dumps(
    {
        "status": "completed",
        "jobId": "small/20260131_00000000.zip",
        "path": "small/20260131/20260131_00000000.zip",
        "sha256": "0" * 64,
        "startedAt": "2026-01-31T08:15:00.123Z",
        "finishedAt": "2026-01-31T08:15:00.123Z",
        "worker": "nobody",
    }
).encode()


async def handle(results: AbstractExchange, message: AbstractIncomingMessage) -> None:
    """See one message through."""
    event = aio_pika.Message(
        _EVENT, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
    )
    await results.publish(event, routing_key="completed.small")
    await message.ack()


async def main() -> None:
    """Work until killed."""
    async with await aio_pika.connect(os.environ["BENCH_AMQP_URL"]) as connection:
        channel = await connection.channel(on_return_raises=True)
        await channel.set_qos(prefetch_count=int(os.environ["BENCH_CONCURRENCY"]))
        results = await channel.get_exchange(os.environ["BENCH_RESULTS"], ensure=False)
        queue = await channel.get_queue(os.environ["BENCH_QUEUE"], ensure=False)
        await queue.consume(partial(handle, results))
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main())
