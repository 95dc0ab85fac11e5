"""Continues the trace of a job into its outcome (W3C Trace Context), even when no span is recorded.

`worker.observe.otel` records spans, where OpenTelemetry is installed and switched on.
"""

import random
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import PurePosixPath
from typing import NamedTuple

from worker.core.job import Job
from worker.core.progress import Progress

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_NOTHING: AbstractContextManager[None] = nullcontext()


class TraceContext(NamedTuple):
    """A place in a trace.

    Attributes:
        trace_id: The trace, 32 hexadecimal digits.
        span_id: Our part of it, 16 hexadecimal digits.
        flags: 2 hexadecimal digits; `01` when it is recorded.
    """

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """The header that continues the trace from here."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def random_hex(size: int) -> str:
    """Draw `size` random bytes, as lower-case hex.

    Not from the system's generator: ids are no secret, and OpenTelemetry's RandomIdGenerator does the same.
    """
    return f"{random.getrandbits(8 * size):0{2 * size}x}"


def continue_trace(traceparent: str | None, random_hex: Callable[[int], str]) -> TraceContext:
    """Give our own part of a trace: the same trace, a new span.

    An absent or malformed header starts a new, unsampled trace (W3C Trace Context, section 3.2.2).

    Args:
        traceparent: The header as the publisher sent it.
        random_hex: Draws that number of random bytes, as lower-case hex.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace_id, flags = match.groups() if match else (random_hex(16), "00")
    return TraceContext(trace_id, random_hex(8), flags)


class Untraced:
    """A span that is not recorded. Messages published within it continue the trace."""

    def __init__(self, context: TraceContext) -> None:
        self.context = context

    def request(self) -> AbstractContextManager[None]:
        """Records nothing."""
        return _NOTHING

    def write(self, path: PurePosixPath, progress: Progress) -> AbstractContextManager[None]:  # noqa: ARG002
        """Records nothing."""
        return _NOTHING

    def publish(self, exchange: str, routing_key: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Records nothing."""
        return _NOTHING

    def end(self, ending: str, code: str) -> None:
        """Records nothing."""


class NoTracer:
    """Records no spans."""

    def begin(self, job: Job) -> Untraced:
        """Continue the job's trace, or begin an unsampled one."""
        return Untraced(continue_trace(job.traceparent, random_hex))
