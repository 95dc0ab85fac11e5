"""The parked messages, for operators: shown, replayed as jobs, or discarded."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas import MAX_BODY_BYTES
from worker.broker import messages
from worker.broker.browse import Browser, Taken, open_browser
from worker.broker.connection import AmqpConnection
from worker.broker.frames import Message
from worker.broker.publisher import Publisher, open_publisher
from worker.broker.topology import Names
from worker.core.job import Cut, Job, read_job
from worker.errors import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A parked message.

    Attributes:
        job: What could be read of it.
        reason: The error code that it was parked with; empty when something else put it there.
        detail: The error message that it was parked with.
        since: When it was parked; None when that was not recorded.
        body: As it was published; only the beginning of one that is larger than a job may have.
        cut: What is known of the rest of such a body; None when it is whole.
        defect: Why not all of its headers can be read; empty when they can.
        headers: All of its headers that can be read. Comparing letters leaves them out: the broker counts in
            them how often a message was taken.
    """

    job: Job
    reason: str
    detail: str
    since: datetime | None
    body: bytes
    cut: Cut | None
    defect: str
    headers: dict[str, Any] = field(compare=False)


class NotWholeError(Exception):
    """A parked message cannot become a job again; the text says why, as one line."""


class Parked:
    """A parked message that is held. It goes back to the queue unless it is settled."""

    def __init__(self, taken: Taken, browser: Browser, publisher: Publisher, names: Names) -> None:
        self._taken = taken
        self._browser = browser
        self._publisher = publisher
        self._names = names
        self.letter = _read(taken.message)

    async def replay(self) -> None:
        """Publish it as a new job, and remove it here once the broker has confirmed that.

        Raises:
            NotWholeError: Only its beginning was kept; it stays parked.
            BrokerError: The broker did not take it; it stays parked.
        """
        await self.check_whole()
        copy = messages.replayed_copy(self._taken.message, frame_max=self._publisher.frame_max)
        await self._publisher.to_queue(self._names.jobs, copy)
        await self.discard()

    async def check_whole(self) -> None:
        """Check that its whole body was kept. Raises NotWholeError."""
        if cut := self.letter.cut:
            raise NotWholeError(
                f"only the first {len(self.letter.body)} of its {cut.size} bytes were kept: "
                f"have it published again, with at most {MAX_BODY_BYTES} bytes"
            )

    async def discard(self) -> None:
        """Remove it for good. Raises BrokerError when the connection is lost: then it stays parked."""
        self._browser.remove(self._taken)


class DeadLetters:
    """The queue of parked messages, held for one operator.

    Attributes:
        count: How many messages lay in it when it was opened.
    """

    def __init__(self, browser: Browser, publisher: Publisher, names: Names) -> None:
        self._browser = browser
        self._publisher = publisher
        self._names = names
        self.count = browser.count

    async def take(self, limit: int) -> AsyncGenerator[Parked, None]:
        """Give the messages one by one, roughly the oldest first, as `Browser.take` does.

        Args:
            limit: How many at most.

        Raises:
            BrokerError: The connection was lost.
        """
        async with aclosing(self._browser.take(limit)) as taken:
            async for one in taken:
                yield Parked(one, self._browser, self._publisher, self._names)


@asynccontextmanager
async def open_dead_letters(
    connection: AmqpConnection, names: Names, *, timeout: float
) -> AsyncIterator[DeadLetters]:
    """Hold the queue of parked messages. On leaving, all that was not settled goes back.

    Args:
        connection: An open connection.
        names: What the queues are called.
        timeout: Seconds for each question to the broker.

    Raises:
        BrokerError: There is no such queue, the login may not use it, or another operator does.
    """
    async with (
        open_publisher(connection, timeout=timeout) as publisher,
        open_browser(connection, names.dead, timeout=timeout) as browser,
    ):
        yield DeadLetters(browser, publisher, names)


def _read(message: Message) -> DeadLetter:
    envelope = messages.read_letter(message)
    headers = message.properties.headers()
    death = messages.last_death(message.properties)
    since = headers.get(messages.DEAD_SINCE, death.get("time"))
    return DeadLetter(
        job=read_job(envelope),
        # The broker itself may have put it there, when no worker consumed what it gave up on.
        reason=one_line(str(headers.get(messages.DEAD_REASON, death.get("reason", "")))),
        detail=one_line(str(headers.get(messages.DEAD_DETAIL, ""))),
        since=since.astimezone(UTC) if isinstance(since, datetime) else None,
        body=message.body,
        cut=envelope.cut,
        defect=envelope.defect,
        headers=headers,
    )
