"""Publishes jobs as any publisher does, for operators: each confirmed, many at a time."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas import DownloadJob
from worker.broker import messages
from worker.broker.connection import Connection, open_channel, unbroken
from worker.broker.publisher import open_publisher
from worker.broker.topology import Names, count

_AT_ONCE = 256
"""Messages on their way to the broker: waiting for each confirm alone takes a millisecond or more."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to publish, and the id that its outcome will bear."""

    job_id: str
    job: DownloadJob


async def submit_all(
    connection: Connection,
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
        on_confirmed: Is called with each job that lies in the queue for good.

    Raises:
        BrokerError: A job was not confirmed; those after it were not published.
    """
    async with open_publisher(connection, timeout=timeout) as publisher:

        async def publish(submission: Submission) -> None:
            message = messages.job_message(submission.job, submission.job_id)
            await publisher.to_exchange("", message, names.jobs)
            on_confirmed(submission)

        remaining = iter(submissions)
        while batch := list(itertools.islice(remaining, _AT_ONCE)):
            results = await asyncio.gather(*map(publish, batch), return_exceptions=True)
            if failure := next((result for result in results if result is not None), None):
                raise failure


async def check_jobs_queue(connection: Connection, names: Names, *, timeout: float) -> None:
    """See that there is a queue of jobs.

    Raises:
        BrokerError: There is none, or the login may not use it.
    """
    async with open_channel(connection) as channel:
        with unbroken():
            await count(channel, names.jobs, timeout=timeout)
