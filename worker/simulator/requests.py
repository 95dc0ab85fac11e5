"""The requests that the simulator received."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A valid request for a file, before it is answered.

    Attributes:
        app_id: The account.
        bill_file_name: The file.
        signed_at: The time it was signed at.
        received_at: The time it came, by the simulator's clock.
        count: The number of this request among those for the file, from 1.
    """

    app_id: str
    bill_file_name: str
    signed_at: datetime
    received_at: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """A request and its answer, recorded before the answer is sent.

    Attributes:
        app_id: The account; of a refused request the one that it names, or None.
        bill_file_name: The file; None when the request was refused.
        signed_at: The time it was signed at; None when the request was refused.
        received_at: The time it came, by the simulator's clock.
        answer: `file`, or the name of a fault or refusal: `http-401`, `0300011`, `reset-body`.
        reason: Why the request was refused; empty when it was not.
    """

    app_id: str | None
    bill_file_name: str | None = None
    signed_at: datetime | None = None
    received_at: datetime
    answer: str
    reason: str = ""
