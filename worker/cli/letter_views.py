"""How parked messages are shown."""

import base64
from datetime import datetime

from worker.broker.browse import COUNTS
from worker.broker.dead_letters import DeadLetter
from worker.cli import terminal
from worker.cli.quantities import age
from worker.errors import one_line

_SHOWN_NAME = 60
_OURS = "x-dead-"
"""How headers begin that repeat the facts."""


def row(letter: DeadLetter, now: datetime) -> tuple[str, ...]:
    """A parked message as a row of a table."""
    job = letter.job
    return (
        job.job_id,
        letter.reason or "-",
        job.app_id or "-",
        job.bill_file_name or "-",
        _age(letter, now) or "-",
        letter.detail,
    )


def fields(letter: DeadLetter, *, whole: bool = False) -> dict[str, object]:
    """A parked message as JSON; `whole` with headers and body."""
    job = letter.job
    shown: dict[str, object] = {
        "jobId": job.job_id,
        "appId": job.app_id,
        "billFileName": job.bill_file_name,
        "reason": letter.reason or None,
        "detail": letter.detail or None,
        "since": letter.since,
    }
    if not whole:
        return shown
    shown |= {
        "correlationId": job.correlation_id,
        "publisher": job.publisher,
        "user": job.user,
        "headers": letter.headers,
    }
    try:
        shown["body"] = letter.body.decode()
    except UnicodeDecodeError:
        shown |= {"body": None, "bodyBase64": base64.b64encode(letter.body).decode()}
    return shown | ({"bodyBytes": letter.cut.size} if letter.cut else {})


def describe(letter: DeadLetter, now: datetime) -> str:
    """A parked message as a page for a person."""
    job = letter.job
    since = f"{terminal.moment(letter.since)} ({_age(letter, now)} ago)" if letter.since else "-"
    facts = {
        "job": job.job_id,
        "account": job.app_id or "-",
        "file": job.bill_file_name or "-",
        "reason": letter.reason or "-",
        "detail": letter.detail or "-",
        "parked": since,
        "correlation": job.correlation_id,
        **({"publisher": job.publisher} if job.publisher else {}),
        **({"user": job.user} if job.user else {}),
        **{
            one_line(f"header {name}", _SHOWN_NAME): str(value)
            for name, value in sorted(letter.headers.items())
            if name not in COUNTS and not name.startswith(_OURS)
        },
        "body": f"{len(letter.body)} bytes" + (f", the beginning of {letter.cut.size}" if letter.cut else ""),
    }
    if letter.defect:
        facts["headers"] = letter.defect
    return terminal.page(facts, letter.body)


def _age(letter: DeadLetter, now: datetime) -> str:
    return age((now - letter.since).total_seconds()) if letter.since else ""
