"""Why a job failed: the `errorCode` of a failed event.

CONTRIBUTING.md ("A new error code") lists the other places that know the codes.
"""

from enum import StrEnum
from typing import Self


class ErrorCode(StrEnum):
    """The contract's error codes.

    Attributes:
        meaning: When a job fails with this code, as one line for consumers.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Make a member whose value is `value` only, as http.HTTPStatus does."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    INVALID_JOB = (
        "INVALID_JOB",
        "Not JSON, too large, or a field missing or against its rule; the message is also parked.",
    )
    UNKNOWN_APP = "UNKNOWN_APP", "There is no key for this appId."
    UNAUTHORIZED = (
        "UNAUTHORIZED",
        "CC-FS answered HTTP 401, also to a second request with the key read again.",
    )
    FILE_NOT_FOUND = "FILE_NOT_FOUND", "CC-FS does not have the file (0300011, 0300012)."
    REQUEST_REJECTED = (
        "REQUEST_REJECTED",
        "CC-FS refuses the request as such (0300001-0300007, 0300010, 0300013, other HTTP 4xx).",
    )
    FLOW_CONTROL = (
        "FLOW_CONTROL",
        "CC-FS or what stands before it asks to slow down (0300008, 0300009, HTTP 403, 429, 502-504).",
    )
    UPSTREAM_ERROR = (
        "UPSTREAM_ERROR",
        "Unknown resultCode, other HTTP 5xx, a redirect, or an unusable answer.",
    )
    UPSTREAM_UNREACHABLE = (
        "UPSTREAM_UNREACHABLE",
        "DNS, TCP or TLS failure, or the connection cut before an answer came.",
    )
    TIMEOUT = "TIMEOUT", "The connect, idle or whole-job deadline passed."
    TRUNCATED = (
        "TRUNCATED",
        "Fewer bytes than announced, or the connection cut after the response's headers.",
    )
    CORRUPT_ARCHIVE = "CORRUPT_ARCHIVE", "The body is not a sound zip."
    TOO_LARGE = "TOO_LARGE", "Over the size limit, announced or counted."
    STORAGE_FULL = "STORAGE_FULL", "No space or quota left."
    STORAGE_ERROR = "STORAGE_ERROR", "Any other failure of the file system."
    DELIVERY_LIMIT = (
        "DELIVERY_LIMIT",
        "The broker gave up on the message (a crash loop); the message is also parked.",
    )
    INTERNAL_ERROR = "INTERNAL_ERROR", "A defect of the worker."
