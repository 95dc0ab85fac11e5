"""Publishes jobs for operators: each is confirmed, many concurrently."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas import DownloadJob
from worker.broker import messages
from worker.broker.connection import AmqpConnection, open_channel, unbroken
from worker.broker.publisher import open_publisher
from worker.broker.topology import FROM_THE_WORKER, Names, ask, explained

_BATCH = 256
"""Messages published before their confirms are awaited: each confirm takes a millisecond or more."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to publish, the id that its outcome will have, and its priority, if any."""

    job_id: str
    job: DownloadJob
    priority: int | None = None


async def submit_all(
    connection: AmqpConnection,
    names: Names,
    submissions: Iterable[Submission],
    *,
    timeout: float,
    on_confirmed: Callable[[Submission], None],
) -> None:
    """Publish jobs into the queue of jobs.

    Args:
        connection: An open connection.
        names: What the queue is called.
        submissions: The jobs; their ids must be unique.
        timeout: Seconds to wait for each confirm.
        on_confirmed: Called with each job that the broker has confirmed.

    Raises:
        BrokerError: A job was not confirmed. Others of its batch may have been, and no later batch was
            published.
    """
    async with open_publisher(connection, timeout=timeout) as publisher:

        async def publish(submission: Submission) -> None:
            message = messages.job_message(submission.job, submission.job_id, submission.priority)
            await publisher.to_queue(names.jobs, message)
            on_confirmed(submission)

        remaining = iter(submissions)
        while batch := list(itertools.islice(remaining, _BATCH)):
            # All of them: after a first failure, `gather` would leave the others running on a closed channel.
            results = await asyncio.gather(*map(publish, batch), return_exceptions=True)
            if failure := next((result for result in results if result is not None), None):
                raise failure


async def check_jobs_queue(connection: AmqpConnection, names: Names, *, timeout: float) -> None:
    """Check that there is a queue of jobs.

    Raises:
        BrokerError: There is none, or the login may not use it.
    """
    async with open_channel(connection) as channel:
        with unbroken(), explained("queue", names.jobs, if_missing=FROM_THE_WORKER):
            await ask(channel, names.jobs, timeout=timeout, tries=1)
