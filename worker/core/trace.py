"""W3C Trace Context: the `traceparent` header of a job continued into its outcome."""

import random
import re
from collections.abc import Callable
from typing import NamedTuple

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


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
        """The header that whoever continues it reads."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def random_hex(size: int) -> str:
    """Draw so many random bytes, as lower-case hex.

    Without a system call, since ids are no secret: OpenTelemetry's RandomIdGenerator draws them so, too.
    """
    return f"{random.getrandbits(8 * size):0{2 * size}x}"


def continue_trace(traceparent: str | None, random_hex: Callable[[int], str]) -> TraceContext:
    """Give our own part of a trace: the same trace, a new span.

    An absent or malformed header starts a new, unsampled trace (W3C Trace Context, section 3.2.2).

    Args:
        traceparent: The header as the publisher sent it.
        random_hex: Gives so many random bytes as lower-case hex.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace_id, flags = match.groups() if match else (random_hex(16), "00")
    return TraceContext(trace_id, random_hex(8), flags)
