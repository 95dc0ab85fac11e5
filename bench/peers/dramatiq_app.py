"""The job as a dramatiq actor."""

import json
import threading

import dramatiq
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from pika.adapters.blocking_connection import BlockingChannel

from bench.peers import blocking, job

env = job.settings()
broker = RabbitmqBroker(url=env.amqp_url, confirm_delivery=True)
dramatiq.set_broker(broker)
_local = threading.local()


def results_channel() -> BlockingChannel:
    """This thread's channel for results: pika's connections are not to be shared."""
    if not hasattr(_local, "channel"):
        _local.channel = pika.BlockingConnection(pika.URLParameters(env.amqp_url)).channel()
        _local.channel.confirm_delivery()
    channel: BlockingChannel = _local.channel
    return channel


@dramatiq.actor(actor_name="fetch", queue_name=env.queue)
def fetch(app_id: str, bill_file_name: str) -> None:
    """See one job through; the worker acknowledges it when this returns."""
    result = blocking.download(env, app_id, bill_file_name)
    results_channel().basic_publish(
        exchange=env.results,
        routing_key=f"completed.{app_id}",
        body=json.dumps(result).encode(),
        properties=pika.BasicProperties(
            content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent
        ),
        mandatory=True,
    )
