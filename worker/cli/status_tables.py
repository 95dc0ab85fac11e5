"""What workers say of themselves, as tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, zip_longest
from typing import NamedTuple

from rich.cells import cell_len
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.cli.quantities import age, binary_size
from worker.cli.terminal import new_table
from worker.errors import one_line
from worker.observe.status import JobStatus, State, Status

_STYLES: Mapping[State, str] = {
    State.WORKING: "green",
    State.PAUSED: "yellow",
    State.DRAINING: "yellow",
    State.DISCONNECTED: "red",
}
_FIGURES = (
    "IN FLIGHT",
    "DONE/s",
    "FAILED/s",
    "RETRIED/s",
    "BYTES/s",
    "CONCURRENCY",
    "FREE",
    "DONE",
    "FAILED",
    "DEFERRED/s",
    "UP",
)
"""The most important first: those that find no place on a narrow terminal are left out."""
_GAP = 2
_ROOM_FOR_BARS = 120
_BAR_WIDTH = 20


class StatusAnswer(NamedTuple):
    """What a worker said when asked for its status; None and the problem when it said nothing of use."""

    url: str
    status: Status | None
    problem: str


def workers(answers: Sequence[StatusAnswer], width: int) -> Table:
    """The workers: state, and as many figures as fit beside it, a row each."""
    rows = [_worker(answer) for answer in answers]
    heads = ("WORKER", "STATE", *_FIGURES)
    widths = [max(map(cell_len, column)) for column in zip_longest(heads, *rows, fillvalue="")]
    ends = accumulate(wide + _GAP for wide in widths)
    shown = max(2, sum(end - _GAP <= width for end in ends))
    table = new_table(*heads[:2], numbers=heads[2:shown])
    for answer, (name, state, *figures) in zip(answers, rows, strict=True):
        style = "red" if answer.status is None else _STYLES[answer.status.state]
        table.add_row(Text(name), Text(state, style=style), *figures[: shown - 2])
    return table


def _worker(answer: StatusAnswer) -> list[str]:
    status = answer.status
    if status is None:
        return [one_line(answer.url), "no answer"]
    intake, rates, totals, free = status.intake, status.rates, status.totals, status.storage.free_bytes
    limited = intake.concurrency_limit < intake.concurrency
    return [
        one_line(status.host),
        status.state,
        f"{intake.in_flight}",
        *(f"{rate:.1f}" for rate in (rates.completed, rates.failed, rates.retried)),
        binary_size(rates.downloaded_bytes),
        f"{intake.concurrency_limit}" + (f" of {intake.concurrency}" if limited else ""),
        "unknown" if free is None else binary_size(free),
        f"{totals.completed:,}",
        f"{totals.failed:,}",
        f"{rates.deferred:.1f}",
        age(status.uptime_seconds),
    ]


def queues(statuses: Sequence[Status]) -> Table:
    """By queue, the messages ready in it; of several workers with one broker, the latest look wins."""
    table = new_table("QUEUE", numbers=["MESSAGES"])
    known = [status.queues for status in statuses if status.queues.age_seconds is not None]
    shown: dict[str, str] = {}
    for look in sorted(known, key=lambda look: -(look.age_seconds or 0)):
        shown |= {name: f"{count:,}" for name, count in look.ready.items()}
        shown |= {name: f"unknown: {why}" for name, why in look.unknown.items()}
    for name, text in shown.items():
        table.add_row(Text(one_line(name)), Text(one_line(text)))
    return table


def codes(statuses: Sequence[Status]) -> Table:
    """By error code, the attempts and the jobs that failed; the most frequent first."""
    table = new_table("CODE", numbers=["ATTEMPTS", "JOBS FAILED"])
    attempts: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for status in statuses:
        attempts.update(status.totals.attempts_failed)
        outcomes.update(status.totals.outcomes_failed)
    for code, count in attempts.most_common():
        table.add_row(Text(one_line(code)), f"{count:,}", f"{outcomes[code]:,}")
    return table


def jobs(held: Iterable[tuple[str, JobStatus]], width: int) -> Table:
    """Jobs in flight with the host that each is on: how far they are, and for how long."""
    bar = [""] if width >= _ROOM_FOR_BARS else []
    table = new_table("IN FLIGHT", "APP", "WORKER", "STEP", "RECEIVED", *bar, numbers=["ATTEMPT", "FOR"])
    for host, job in held:
        known = job.announced_bytes is not None
        total = job.announced_bytes or 0
        table.add_row(
            Text(one_line(job.bill_file_name or job.job_id)),
            Text(one_line(job.app_id or "unreadable")),
            Text(one_line(host)),
            Text(one_line(f"{job.step}: {job.problem}" if job.problem else job.step)),
            f"{binary_size(job.received_bytes)} of {binary_size(total)}" if known else "",
            *(ProgressBar(total or 1, job.received_bytes, width=_BAR_WIDTH) if known else "" for _ in bar),
            f"{job.attempt}",
            age(job.seconds),
        )
    return table
