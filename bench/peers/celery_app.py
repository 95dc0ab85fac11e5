"""The job as a Celery task."""

from celery import Celery
from kombu import Exchange, Queue

from bench.peers import blocking, job

env = job.settings()
results = Exchange(env.results, type="topic", durable=True)
app = Celery("bench", broker=env.amqp_url)
app.conf.update(
    task_queues=[Queue(env.queue, Exchange(env.queue), routing_key=env.queue)],
    task_default_queue=env.queue,
    task_default_exchange=env.queue,
    task_default_routing_key=env.queue,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_pool_limit=env.concurrency,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@app.task(name="fetch")
def fetch(app_id: str, bill_file_name: str) -> None:
    """See one job through; the worker acknowledges it when this returns."""
    result = blocking.download(env, app_id, bill_file_name)
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            result,
            exchange=results,
            routing_key=f"completed.{app_id}",
            delivery_mode="persistent",
            mandatory=True,
            serializer="json",
        )
