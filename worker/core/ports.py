"""The protocols that the other rooms implement for the core: broker, CC-FS, storage, metrics and traces."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import PurePosixPath
from typing import Protocol

from schemas import DownloadJob, FailedJob, Outcome
from worker.core.job import Envelope, Hold, Job
from worker.core.outcome import Ending, StoredFile
from worker.core.progress import Progress
from worker.core.retry import Retry
from worker.core.trace import TraceContext
from worker.errors import JobError


class Delivery(Protocol):
    """A message that the broker has delivered. It is ours until it is settled.

    All its methods use the session that it came from. Once that is over, the broker delivers the message
    again, and they raise SessionLostError. An orphan is one whose queue was deleted: the broker does not
    deliver it again, and what is published for it waits for the next session.
    """

    @property
    def envelope(self) -> Envelope:
        """The message."""
        ...

    @property
    def redelivered(self) -> bool:
        """True when the broker had delivered the message before."""
        ...

    @property
    def alive(self) -> bool:
        """False once the broker will deliver the message again: its session is over, and it is no orphan."""
        ...

    @property
    def orphaned(self) -> bool:
        """True when its queue was deleted: the broker does not deliver the message again."""
        ...

    @property
    def keeps_failures(self) -> bool:
        """Whether there is a place to keep failed jobs."""
        ...

    async def publish(self, outcome: Outcome, job: Job) -> None:
        """Publish an event and wait for its confirm, without a limit. Raises NotConfirmedError."""
        ...

    async def keep(self, failure: FailedJob, job: Job) -> None:
        """Publish a failed job to where they are kept, confirmed. Raises NotConfirmedError."""
        ...

    async def retry(self, retry: Retry) -> None:
        """Publish a copy to the tier of its delay and wait for the confirm. Raises NotConfirmedError."""
        ...

    async def hold(self, hold: Hold, wait: float, job: Job) -> None:
        """Publish a copy that waits for its account's key, confirmed. Raises NotConfirmedError."""
        ...

    async def park(self, error: JobError, job: Job) -> None:
        """Publish a copy with its reason to the dead letters, confirmed. Raises NotConfirmedError."""
        ...

    async def ack(self) -> None:
        """Acknowledge: the job is done with."""
        ...

    async def give_back(self) -> None:
        """Return the message to its queue (nack); counted toward the delivery limit before RabbitMQ 4.3."""
        ...

    async def reject(self) -> None:
        """Return the message to its queue; the broker counts it toward the delivery limit."""
        ...


class Keys(Protocol):
    """Reads the secret keys of the accounts."""

    async def recent(self, app_id: str) -> str:
        """Give an account's key, perhaps from a cache that is a moment old."""
        ...

    async def read(self, app_id: str) -> str:
        """Read an account's key anew."""
        ...

    async def about(self, app_id: str) -> str:
        """Say where an account's key is, and how old; empty when that is unknown."""
        ...


Chunk = bytes | memoryview
"""Bytes of a response's body."""


class Stream(Protocol):
    """The body of a response that is a file."""

    @property
    def announced_bytes(self) -> int | None:
        """The size that the server announced, if it did."""
        ...

    @property
    def chunks(self) -> AsyncIterator[Chunk]:
        """The bytes in steps that are worth a thread's while, each valid until the next is asked for."""
        ...


class Source(Protocol):
    """Where files come from."""

    def open(
        self, job: DownloadJob, secret_key: str, progress: Progress
    ) -> AbstractAsyncContextManager[Stream]:
        """Request a job's file; records in `progress` that it asked, and the status of the answer."""
        ...


class Store(Protocol):
    """Where files go."""

    async def find(self, path: PurePosixPath) -> StoredFile | None:
        """Find a good file that is already there."""
        ...

    async def store(
        self,
        path: PurePosixPath,
        chunks: AsyncIterator[Chunk],
        *,
        announced_bytes: int | None,
        progress: Progress,
    ) -> StoredFile:
        """Write a stream, whole and verified or not at all. Records in `progress` what was received."""
        ...


class Watch(Protocol):
    """Watches something that all downloads depend on: CC-FS, the volume, file descriptors."""

    async def failed(self, error: JobError) -> bool:
        """A download failed. True when the dependency is out, and the job not to blame."""
        ...

    def succeeded(self) -> None:
        """A download succeeded."""
        ...


class Observer(Protocol):
    """Counts what happens to deliveries and downloads: the metrics."""

    def job_ended(
        self, ending: Ending, code: str, seconds: float, *, waited: float | None, age: float
    ) -> None:
        """A delivery is no longer ours.

        Args:
            ending: How it ended.
            code: The error code of an attempt that failed, else empty.
            seconds: How long it was in hand.
            waited: Seconds from the job's publication to its first delivery, if this was that and its
                timestamp is known.
            age: Seconds since the job's publication, as its timestamp has it; without one, since this
                delivery.
        """
        ...

    def retried(self, code: str, delay: float) -> None:
        """A job waits `delay` seconds in the broker for another attempt."""
        ...

    def parked(self, code: str) -> None:
        """A message was parked among the dead letters."""
        ...

    def failed(self, job: Job, error: JobError) -> None:
        """A job failed for good, and its event is out."""
        ...

    def failure_lost(self) -> None:
        """A failed job has its event, but could not be kept for operators."""
        ...

    def confirmed(self, seconds: float) -> None:
        """The broker confirmed a message `seconds` after it was published."""
        ...

    def unconfirmed(self, *, unroutable: bool) -> None:
        """The broker did not take a message."""
        ...

    def downloaded(self, size_bytes: int, seconds: float) -> None:
        """A file was transferred and is on storage."""
        ...

    def answered(self, seconds: float) -> None:
        """The first bytes of a file came `seconds` after its request."""
        ...

    def synced(self, seconds: float) -> None:
        """The storage made a file's bytes durable within `seconds`."""
        ...


class TraceSpan(Protocol):
    """A span of a trace. Its methods open spans within it, which end with the error that leaves them."""

    @property
    def context(self) -> TraceContext:
        """Where it stands in its trace: messages published now continue from there."""
        ...

    def request(self) -> AbstractContextManager[None]:
        """The request to CC-FS, until its body has come or broken off."""
        ...

    def write(self, path: PurePosixPath, progress: Progress) -> AbstractContextManager[None]:
        """The file on its way to the storage. `progress` has its size at the end."""
        ...

    def publish(self, exchange: str, routing_key: str) -> AbstractContextManager[object]:
        """A message on its way to the broker, until it is confirmed."""
        ...

    def end(self, ending: str, code: str) -> None:
        """The job is no longer ours; `code` is the error code of an attempt that failed, else empty."""
        ...


class Tracer(Protocol):
    """Traces jobs."""

    def begin(self, job: Job) -> TraceSpan:
        """Begin the span of a job: its trace goes on, or a new one begins."""
        ...
