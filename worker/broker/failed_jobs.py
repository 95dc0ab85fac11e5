"""The failed jobs that are kept, as an operator sees them: looked at, published again, or forgotten."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from schemas import MAX_BODY_BYTES, FailedJob, read_failed_job
from worker.broker import messages
from worker.broker import properties as amqp
from worker.broker.browse import HOLD_AT_MOST, Browser, Taken, open_browser
from worker.broker.connection import AmqpConnection
from worker.broker.publisher import Publisher, open_publisher
from worker.broker.topology import Names
from worker.errors import BrokerError, one_line

_WHOLE = 8 * MAX_BODY_BYTES
"""Bytes that are read whole: an event holds its job's body, in which JSON may write six bytes for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptJob:
    """A failed job as it was kept.

    Attributes:
        id: The id of its message; empty when it has none, since somebody else put it there.
        failure: The event with its job; None when it cannot be read.
        defect: Why it cannot be read, as one line; empty when it can.
        headers: The job's headers that can be read.
        priority: The job's priority; None when it had none.
        publisher: What published the job (`app_id`), if it said so.
    """

    id: str
    failure: FailedJob | None
    defect: str
    headers: dict[str, Any]
    priority: int | None
    publisher: str | None

    @property
    def job_id(self) -> str:
        """The job's id, as far as it can be read."""
        return self.failure.job_id if self.failure else self.id


class NoJobError(Exception):
    """A failed job cannot be published again; the text says why, as one line."""


class FailedJobs:
    """The queue of failed jobs, for one operator alone. Made by `open_failed_jobs`.

    Attributes:
        count: How many lay in it when it was opened.
    """

    def __init__(self, browser: Browser, publisher: Publisher, names: Names) -> None:
        self._browser = browser
        self._publisher = publisher
        self._names = names
        self.count = browser.count

    @property
    def removed(self) -> int:
        """How many of them have been removed."""
        return self._browser.removed

    @property
    def was_cut_short(self) -> bool:
        """Whether some were left because others had been held for long enough."""
        return self._browser.was_cut_short

    async def take(self, limit: int) -> AsyncGenerator["Held", None]:
        """Give them one by one, roughly the oldest first; see `worker.broker.browse.Browser.take`.

        Raises:
            BrokerError: The connection was lost.
        """
        async with aclosing(self._browser.take(limit)) as taken:
            async for one in taken:
                yield Held(one, self._browser, self._publisher, self._names)


class Held:
    """A failed job in our hands; unless it is published again or forgotten it goes back to the queue."""

    def __init__(self, taken: Taken, browser: Browser, publisher: Publisher, names: Names) -> None:
        self._taken = taken
        self._browser = browser
        self._publisher = publisher
        self._names = names
        self.kept = _read(taken)

    def body(self) -> bytes:
        """The body of its job. Raises NoJobError when it was not kept."""
        failure = self.kept.failure
        if failure is None:
            raise NoJobError(self.kept.defect)
        if failure.job is None:
            raise NoJobError(
                "its body was not kept, since it is no text or too large for a job: have it published again"
            )
        return failure.job.encode()

    async def retry(self) -> None:
        """Publish its job again, and remove it here once the broker has confirmed that.

        Raises:
            NoJobError: Its body was not kept; it stays here.
            BrokerError: The broker did not take the job; it stays here.
        """
        body = self.body()
        message, frame_max = self._taken.message, self._publisher.frame_max
        job = messages.job_again(message, self.kept.job_id, body, frame_max=frame_max)
        await self._publisher.to_queue(self._names.jobs, job)
        self.forget()

    def forget(self) -> None:
        """Remove it for good. Raises BrokerError."""
        self._browser.remove(self._taken)


@asynccontextmanager
async def open_failed_jobs(
    connection: AmqpConnection, names: Names, *, timeout: float, hold_at_most: float = HOLD_AT_MOST
) -> AsyncIterator[FailedJobs]:
    """Look into the queue of failed jobs; see `worker.broker.browse.open_browser`.

    Args:
        connection: An open connection.
        names: What the queues are called.
        timeout: Seconds for each question to the broker.
        hold_at_most: Seconds after which no more are taken.

    Raises:
        BrokerError: There is no such queue, the login may not use it, or another operator does.
    """
    if names.failed is None:
        raise BrokerError("WORKER_AMQP__FAILED_KEEP is 0: no failed jobs are kept")
    async with (
        open_publisher(connection, timeout=timeout) as publisher,
        open_browser(
            connection, names.failed, timeout=timeout, whole=_WHOLE, hold_at_most=hold_at_most
        ) as browser,
    ):
        yield FailedJobs(browser, publisher, names)


def _read(taken: Taken) -> KeptJob:
    properties = taken.message.properties
    failure, defect = None, ""
    try:
        failure = read_failed_job(taken.message.body)
    except ValueError as exc:
        defect = f"no failed job of this contract: {one_line(str(exc), 200)}"
    return KeptJob(
        id=properties.short(amqp.MESSAGE_ID) or "",
        failure=failure,
        defect=defect,
        headers=properties.headers(),
        priority=properties.octet(amqp.PRIORITY),
        publisher=properties.short(amqp.APP_ID),
    )
