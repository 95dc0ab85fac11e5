"""A session with the real broker, and a second client that looks from outside."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from structlog.testing import capture_logs

from devkit.run.broker import Broker
from worker.broker import AmqpDelivery, BrokerOptions, Names, NewestPublisher, Session, Topology, open_session
from worker.broker.topology import declare


@pytest.fixture
def options(rabbitmq: Broker, names: Names) -> BrokerOptions:
    return BrokerOptions(
        url=rabbitmq.url,
        topology=Topology(names=names, tiers=(0.05, 60.0), delivery_limit=3),
        declare=True,
        prefetch=4,
        heartbeat=10,
        connect_timeout=10,
        tls=None,
        host="test",
    )


@pytest.fixture
async def outside(rabbitmq: Broker, names: Names, options: BrokerOptions) -> AsyncIterator[AbstractChannel]:
    """Another client's channel, with confirms; what the test declared is deleted through it."""
    async with await aio_pika.connect(rabbitmq.url) as connection:
        yield await connection.channel(on_return_raises=True)
        # The test may have had its channel closed by a refusal.
        channel = await connection.channel()
        for queue in options.topology.queues():
            await channel.queue_delete(queue)
        await channel.exchange_delete(names.results)
        await channel.exchange_delete(names.dead_letter_exchange)


@pytest.fixture
async def declared(rabbitmq: Broker, options: BrokerOptions, outside: AbstractChannel) -> None:  # noqa: ARG001
    """Everything is there that a worker declares."""
    async with await aio_pika.connect(rabbitmq.url) as connection:
        await declare(connection, options.topology, passive=False, timeout=10)


@dataclass
class Inbox:
    """What a session delivered, in order."""

    jobs: asyncio.Queue[AmqpDelivery] = field(default_factory=asyncio.Queue)
    dropped: asyncio.Queue[AmqpDelivery] = field(default_factory=asyncio.Queue)

    async def dropped_after(self, settle: Callable[[AmqpDelivery], Awaitable[None]]) -> AmqpDelivery:
        """Settle every job that comes in a way, until the broker gives up on one."""

        async def settle_all() -> None:
            while True:
                await settle(await self.jobs.get())

        settling = asyncio.create_task(settle_all())
        try:
            return await self.dropped.get()
        finally:
            settling.cancel()


@dataclass
class Connected:
    session: Session
    inbox: Inbox


Connect = Callable[[], AbstractAsyncContextManager[Connected]]


@pytest.fixture
async def connect(options: BrokerOptions) -> Connect:
    """Opens a session that consumes."""

    newest = NewestPublisher()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Connected]:
        inbox = Inbox()
        async with open_session(
            options,
            on_job=inbox.jobs.put_nowait,
            on_dropped=inbox.dropped.put_nowait,
            newest=newest,
        ) as session:
            await session.consume()
            yield Connected(session, inbox)

    return opened


@pytest.fixture
async def connected(connect: Connect, outside: AbstractChannel) -> AsyncIterator[Connected]:  # noqa: ARG001
    async with connect() as opened:
        yield opened


@asynccontextmanager
async def completing(session: Session) -> AsyncIterator[None]:
    """On leaving, wait until what was deleted is there again."""
    with capture_logs() as lines:
        yield
        async with asyncio.timeout(60):
            while not any(line["event"] == "broker.completed" for line in lines):
                assert session.loss == ""
                await asyncio.sleep(0.01)
    assert session.consuming
