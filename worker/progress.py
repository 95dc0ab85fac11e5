"""How far a download has come: noted on its way, shown while it runs, counted when it is over."""

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """One download as it goes.

    Attributes:
        has_begun: False while it waits for its place.
        announced_bytes: The file's size, once CC-FS has announced it.
        received_bytes: What has come of it, in steps of a mebibyte.
        answer_seconds: From the request to the first bytes of the file, once they came.
        sync_seconds: How long the storage took to make it durable, once it is.
    """

    has_begun: bool = False
    announced_bytes: int | None = None
    received_bytes: int = 0
    answer_seconds: float | None = None
    sync_seconds: float | None = None
