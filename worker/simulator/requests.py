"""What was asked of the simulator."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request for a file that was in order, and that an answer is planned for.

    Attributes:
        app_id: The account.
        bill_file_name: The file.
        signed_at: The time it was signed at.
        received_at: The time it came, by the simulator's clock.
        count: Which request for this file it is, from 1.
    """

    app_id: str
    bill_file_name: str
    signed_at: datetime
    received_at: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """A request and what was decided to answer, noted before the answer is sent.

    Attributes:
        app_id: The account; of a refused request the one it claims, or None.
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
