"""W3C Trace Context: the `traceparent` header of a job continued into its outcome."""

import re
from collections.abc import Callable

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def continue_trace(traceparent: str | None, random_hex: Callable[[int], str]) -> str:
    """Give the `traceparent` of our own part of a trace: the same trace, a new parent id.

    An absent or malformed header starts a new, unsampled trace (W3C Trace Context, section 3.2.2).

    Args:
        traceparent: The header as the publisher sent it.
        random_hex: Gives so many random bytes as lower-case hex.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace_id, flags = match.groups() if match else (random_hex(16), "00")
    return f"00-{trace_id}-{random_hex(8)}-{flags}"
