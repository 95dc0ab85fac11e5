"""What another client of the broker does: an upstream system that publishes, or a consumer of results."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage


@asynccontextmanager
async def outside_channel(url: str) -> AsyncIterator[AbstractChannel]:
    """A channel with confirms, on a connection of its own."""
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel(on_return_raises=True)


async def put(channel: AbstractChannel, queue: str, body: bytes = b"{}", **properties: object) -> None:
    """Publish to a queue as an upstream system does."""
    await channel.default_exchange.publish(aio_pika.Message(body, **properties), queue)  # type: ignore[arg-type]


async def take(channel: AbstractChannel, queue: str) -> AbstractIncomingMessage:
    """Wait for the next message of a queue and ack it."""
    taken: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()

    async def settle(message: AbstractIncomingMessage) -> None:
        if taken.done():
            await message.nack(requeue=True)
            return
        # Before anything is awaited: the next message may be here already.
        taken.set_result(message)
        await message.ack()

    held = await channel.get_queue(queue)
    tag = await held.consume(settle)
    message = await taken
    await held.cancel(tag)
    return message
