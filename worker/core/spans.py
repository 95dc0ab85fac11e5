"""The seam for traces: what is told of a job's way, and nobody who listens.

`worker.observe.otel` listens, where OpenTelemetry is installed and switched on.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import PurePosixPath
from typing import Protocol

from worker.core.job import Job
from worker.core.progress import Progress
from worker.core.trace import TraceContext, continue_trace, random_hex

_NOTHING: AbstractContextManager[None] = nullcontext()


class TraceSpan(Protocol):
    """A part of a trace; the parts within it are context managers that end it with what they raise."""

    @property
    def context(self) -> TraceContext:
        """Where it stands in its trace: messages published now continue from there."""
        ...

    def request(self) -> AbstractContextManager[None]:
        """The request to CC-FS, until its body has come or broken off."""
        ...

    def write(self, path: PurePosixPath, progress: Progress) -> AbstractContextManager[None]:
        """The file on its way to the storage; `progress` knows its size at the end."""
        ...

    def publish(self, exchange: str, routing_key: str) -> AbstractContextManager[object]:
        """A message on its way to the broker, until it is confirmed."""
        ...

    def end(self, ending: str, code: str) -> None:
        """The job is no longer ours; `code` is the error code of an attempt that failed, else empty."""
        ...


class Tracer(Protocol):
    """Who follows jobs."""

    def begin(self, job: Job) -> TraceSpan:
        """A job was taken in; its trace goes on, or a new one begins."""
        ...


class Untraced:
    """A span that only knows its place, so that the trace goes on behind us all the same."""

    def __init__(self, context: TraceContext) -> None:
        self.context = context

    def request(self) -> AbstractContextManager[None]:
        """Not followed."""
        return _NOTHING

    def write(self, path: PurePosixPath, progress: Progress) -> AbstractContextManager[None]:  # noqa: ARG002
        """Not followed."""
        return _NOTHING

    def publish(self, exchange: str, routing_key: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Not followed."""
        return _NOTHING

    def end(self, ending: str, code: str) -> None:
        """Not followed."""


class NoTracer:
    """Follows nothing."""

    def begin(self, job: Job) -> TraceSpan:
        """Continue the job's trace, or begin an unsampled one."""
        return Untraced(continue_trace(job.traceparent, random_hex))
