"""How far a download has come: shown while it runs, counted and logged when it is over."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Signed(NamedTuple):
    """Which key signs a request to CC-FS, and since when.

    Attributes:
        key: A number that tells the key that signed it from others, within this process; it says nothing else
            about it.
        at: When the attempt took the key, before it waits for its turn; UTC, timezone-aware.
    """

    key: int
    at: datetime


@dataclass(slots=True)
class Progress:
    """One download as it goes.

    Attributes:
        wait_seconds: How long it waited for its place; None while it waits.
        asked: Whether CC-FS was asked for it.
        signed: The last request that was made for it.
        http_status: What CC-FS answered, once an answer's headers came.
        announced_bytes: The file's size, once CC-FS has announced it.
        received_bytes: What has come of it.
        answer_seconds: From the request to the first bytes of the file, once they have come.
        sync_seconds: How long the storage took to make it durable, once it is.
        download_seconds: How long it ran in all, once it is over.
    """

    wait_seconds: float | None = None
    asked: bool = False
    signed: Signed | None = None
    http_status: int | None = None
    announced_bytes: int | None = None
    received_bytes: int = 0
    answer_seconds: float | None = None
    sync_seconds: float | None = None
    download_seconds: float | None = None

    @property
    def has_begun(self) -> bool:
        """False while it waits for its place."""
        return self.wait_seconds is not None
