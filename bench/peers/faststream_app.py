"""The job as a FastStream subscriber."""

from typing import TYPE_CHECKING

from faststream import ContextRepo, FastStream
from faststream.middlewares import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.schemas.queue import QueueType
from pydantic import BaseModel

from bench.peers import job, streaming

if TYPE_CHECKING:
    import aiohttp

env = job.settings()
broker = RabbitBroker(
    env.amqp_url, default_channel=Channel(prefetch_count=env.concurrency, on_return_raises=True)
)
app = FastStream(broker)
results = RabbitExchange(env.results, type=ExchangeType.TOPIC, durable=True)


class Wanted(BaseModel):
    """The message of a job."""

    appId: str  # noqa: N815 - the name on the wire
    billFileName: str  # noqa: N815


@app.on_startup
async def open_client(context: ContextRepo) -> None:
    """Open the HTTP client that all jobs use."""
    context.set_global("http", streaming.session(env))


@broker.subscriber(
    RabbitQueue(env.queue, durable=True, queue_type=QueueType.QUORUM), ack_policy=AckPolicy.NACK_ON_ERROR
)
async def fetch(wanted: Wanted, context: ContextRepo) -> None:
    """See one job through; returning acknowledges it."""
    http: aiohttp.ClientSession = context.get("http")
    result = await streaming.download(http, env, wanted.appId, wanted.billFileName)
    await broker.publish(result, exchange=results, routing_key=f"completed.{wanted.appId}", persist=True)
