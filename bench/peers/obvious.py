"""The obvious worker: aio-pika, aiohttp and aiofiles, put together from their README files."""

import asyncio
import json
from functools import partial

import aio_pika
import aiohttp
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

from bench.peers import job, streaming


async def handle(
    env: job.Settings,
    http: aiohttp.ClientSession,
    results: AbstractExchange,
    message: AbstractIncomingMessage,
) -> None:
    """See one job through; leaving the block acknowledges it."""
    async with message.process(requeue=True):
        wanted = json.loads(message.body)
        result = await streaming.download(http, env, wanted["appId"], wanted["billFileName"])
        event = aio_pika.Message(
            json.dumps(result).encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await results.publish(event, routing_key=f"completed.{wanted['appId']}")


async def main() -> None:
    """Work until killed."""
    env = job.settings()
    connection = await aio_pika.connect_robust(env.amqp_url)
    async with connection, streaming.session(env) as http:
        channel = await connection.channel(on_return_raises=True)
        await channel.set_qos(prefetch_count=env.concurrency)
        queue = await channel.declare_queue(env.queue, durable=True, arguments={"x-queue-type": "quorum"})
        results = await channel.get_exchange(env.results)
        await queue.consume(partial(handle, env, http, results))
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
