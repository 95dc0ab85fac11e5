"""Keeps the unreadable properties of one message from costing the whole connection.

pamqp refuses the frame, and aiormq then drops the connection: the broker delivers the message again, and
so without end. Seen with a publisher that wrote its `timestamp` in microseconds, which is beyond the year
9999, and with text that is not UTF-8. The contract wants such a message to end in an outcome.
"""

import struct
from collections.abc import Callable
from functools import wraps

import structlog
from pamqp.header import ContentHeader

log = structlog.stdlib.get_logger(__name__)

_Unmarshal = Callable[[ContentHeader, bytes], None]


def tolerate_unreadable_properties() -> None:
    """Make properties that cannot be decoded count as absent, for the whole process.

    Those before the first bad one survive, in the order of AMQP 0-9-1: headers, correlation_id and
    message_id come before timestamp.
    """
    if not hasattr(ContentHeader.unmarshal, "__wrapped__"):
        ContentHeader.unmarshal = _tolerant(ContentHeader.unmarshal)  # type: ignore[method-assign, assignment]


def _tolerant(unmarshal: _Unmarshal) -> _Unmarshal:
    @wraps(unmarshal)
    def tolerant(header: ContentHeader, data: bytes) -> None:
        try:
            unmarshal(header, data)
        except (ValueError, OverflowError, OSError, LookupError, struct.error) as exc:
            log.warning("broker.properties_unreadable", reason=str(exc))

    return tolerant
