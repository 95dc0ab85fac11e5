"""The job as a taskiq task."""

import json

import aio_pika
import aiohttp
from aio_pika.abc import AbstractExchange
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

from bench.peers import job, streaming

env = job.settings()
broker = AioPikaBroker(
    env.amqp_url,
    qos=env.concurrency,
    exchange=Exchange(name=f"{env.queue}.tasks"),
    task_queues=[Queue(name=env.queue)],
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_clients(state: TaskiqState) -> None:
    """Open the clients that all tasks use."""
    state.http = streaming.session(env)
    connection = await aio_pika.connect_robust(env.amqp_url)
    channel = await connection.channel(on_return_raises=True)
    state.results = await channel.get_exchange(env.results)


def http_client(context: Context = TaskiqDepends()) -> aiohttp.ClientSession:  # noqa: B008 - taskiq's way
    """The HTTP client."""
    client: aiohttp.ClientSession = context.state.http
    return client


def results_exchange(context: Context = TaskiqDepends()) -> AbstractExchange:  # noqa: B008
    """Where results go."""
    exchange: AbstractExchange = context.state.results
    return exchange


@broker.task(task_name="fetch")
async def fetch(
    app_id: str,
    bill_file_name: str,
    http: aiohttp.ClientSession = TaskiqDepends(http_client),  # noqa: B008
    results: AbstractExchange = TaskiqDepends(results_exchange),  # noqa: B008
) -> None:
    """See one job through; the worker acknowledges it when this returns."""
    result = await streaming.download(http, env, app_id, bill_file_name)
    event = aio_pika.Message(
        json.dumps(result).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await results.publish(event, routing_key=f"completed.{app_id}")
