"""How parked messages are shown."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from textwrap import indent

from worker.broker.dead_letters import DeadLetter
from worker.cli import output
from worker.errors import one_line

_SHOWN_BODY, _SHOWN_NAME = 4096, 60
_TOLD = ("x-dead-", "x-delivery-count", "x-acquired-count")
"""Headers that the facts tell already, or that only count how often somebody looked."""


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
    if whole:
        shown |= {"correlationId": job.correlation_id, "headers": letter.headers, **_body(letter)}
    return shown


def describe(letter: DeadLetter, now: datetime) -> str:
    """A parked message as a page for a person."""
    job = letter.job
    since = f"{output.moment(letter.since)} ({_age(letter, now)} ago)" if letter.since else "-"
    facts = {
        "job": job.job_id,
        "account": job.app_id or "-",
        "file": job.bill_file_name or "-",
        "reason": letter.reason or "-",
        "detail": letter.detail or "-",
        "parked": since,
        "correlation": job.correlation_id,
        **{
            one_line(f"header {name}", _SHOWN_NAME): str(value)
            for name, value in sorted(letter.headers.items())
            if not name.startswith(_TOLD)
        },
        "body": f"{len(letter.body)} bytes" + (f", the beginning of {letter.cut.size}" if letter.cut else ""),
    }
    if letter.defect:
        facts["headers"] = letter.defect
    width = max(map(len, facts))
    lines = (f"{name:<{width}}  {one_line(value)}" for name, value in facts.items())
    return "\n".join([*lines, indent("\n".join(_body_lines(letter.body)), "  ")])


def _age(letter: DeadLetter, now: datetime) -> str:
    return output.age((now - letter.since).total_seconds()) if letter.since else ""


def _body(letter: DeadLetter) -> dict[str, object]:
    whole = {"bodyBytes": letter.cut.size} if letter.cut else {}
    try:
        return {"body": letter.body.decode(), **whole}
    except UnicodeDecodeError:
        return {"body": None, "bodyBase64": base64.b64encode(letter.body).decode(), **whole}


def _body_lines(body: bytes) -> Iterator[str]:
    try:
        # Escapes whatever could make a terminal do more than print.
        yield from json.dumps(json.loads(body[:_SHOWN_BODY]), indent=2).splitlines()
    except ValueError:
        yield one_line(body.decode(errors="backslashreplace"), _SHOWN_BODY)
