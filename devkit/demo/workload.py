"""Make jobs for the demo, and say how each should end."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from schemas import ErrorCode

ACCOUNTS = ("sales", "support")
"""The accounts that have keys."""
MISSING = "*-gone.zip"
"""The files that CC-FS does not have."""
COMPLETED = "completed"
"""The ending of a job that has its file."""

_DAYS = [date(2026, 1, 1) + timedelta(days=number) for number in range(5)]
_ODD_ONE_IN = 14


@dataclass(frozen=True)
class Job:
    """A job and its end.

    Attributes:
        job_id: Its message's id.
        body: Its message's body.
        expected: `completed`, or the error code that it ends with.
    """

    job_id: str
    body: bytes
    expected: str


def make_jobs(number: int) -> Iterator[Job]:
    """Yield `number` jobs, always the same; a few are hopeless, or ask for a file once more."""
    for index in range(number):
        odd, position = divmod(index, _ODD_ONE_IN)
        body, expected = _odd(odd, index) if position == _ODD_ONE_IN - 1 else _usual(index)
        yield Job(f"demo-{index:05d}", body, expected)


def _odd(which: int, index: int) -> tuple[bytes, str]:
    name, account = _name(index), _account(index)
    kinds = (
        (_body(account, name.replace(".zip", MISSING[1:])), ErrorCode.FILE_NOT_FOUND),
        (_body("nobody", name), ErrorCode.UNKNOWN_APP),
        (_body(account, f"20260230{name[8:]}"), ErrorCode.INVALID_JOB),
        (_usual(index - 1)[0], COMPLETED),
        (b"Please fetch everything.", ErrorCode.INVALID_JOB),
    )
    return kinds[which % len(kinds)]


def _usual(index: int) -> tuple[bytes, str]:
    return _body(_account(index), _name(index)), COMPLETED


def _account(index: int) -> str:
    return ACCOUNTS[index % len(ACCOUNTS)]


def _name(index: int) -> str:
    response_id = hashlib.sha256(str(index).encode()).hexdigest()[:31]
    return f"{_DAYS[index % len(_DAYS)]:%Y%m%d}_{response_id}.zip"


def _body(app_id: str, bill_file_name: str) -> bytes:
    return json.dumps({"appId": app_id, "billFileName": bill_file_name}).encode()
