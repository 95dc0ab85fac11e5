"""What workers say of themselves, as tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

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
    "CONCURRENCY",
    "DONE/s",
    "FAILED/s",
    "RETRIED/s",
    "BYTES/s",
    "DONE",
    "FAILED",
    "FREE",
    "UP",
)
_BAR_WIDTH = 20


class StatusAnswer(NamedTuple):
    """What a worker said when asked for its status; None and the problem when it said nothing of use."""

    url: str
    status: Status | None
    problem: str


def workers(answers: Sequence[StatusAnswer]) -> Table:
    """The workers: state and figures, a row each."""
    table = new_table("WORKER", "STATE", numbers=_FIGURES)
    for url, status, _ in answers:
        if status is None:
            table.add_row(Text(one_line(url)), Text("no answer", style="red"))
            continue
        intake, rates, totals, free = status.intake, status.rates, status.totals, status.storage.free_bytes
        limited = intake.concurrency_limit < intake.concurrency
        table.add_row(
            Text(one_line(status.host)),
            Text(status.state, style=_STYLES[status.state]),
            f"{intake.in_flight}",
            f"{intake.concurrency_limit}" + (f" of {intake.concurrency}" if limited else ""),
            *(f"{rate:.1f}" for rate in (rates.completed, rates.failed, rates.retried)),
            binary_size(rates.downloaded_bytes),
            f"{totals.completed:,}",
            f"{totals.failed:,}",
            "unknown" if free is None else binary_size(free),
            age(status.uptime_seconds),
        )
    return table


def queues(statuses: Sequence[Status]) -> Table:
    """By queue, the messages ready in it; of several workers with one broker, the latest look wins."""
    table = new_table("QUEUE", numbers=["MESSAGES"])
    known = [status.queues for status in statuses if status.queues.age_seconds is not None]
    ready: dict[str, int] = {}
    for look in sorted(known, key=lambda look: -(look.age_seconds or 0)):
        ready |= look.ready
    for name, count in ready.items():
        table.add_row(Text(one_line(name)), f"{count:,}")
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


def jobs(held: Iterable[tuple[str, JobStatus]]) -> Table:
    """Jobs in flight with the host that each is on: how far they are, and for how long."""
    table = new_table("IN FLIGHT", "APP", "WORKER", "STEP", "RECEIVED", "", numbers=["ATTEMPT", "FOR"])
    for host, job in held:
        known = job.announced_bytes is not None
        total = job.announced_bytes or 0
        table.add_row(
            Text(one_line(job.bill_file_name or job.job_id)),
            Text(one_line(job.app_id or "unreadable")),
            Text(one_line(host)),
            Text(one_line(f"{job.step}: {job.problem}" if job.problem else job.step)),
            f"{binary_size(job.received_bytes)} of {binary_size(total)}" if known else "",
            ProgressBar(total or 1, job.received_bytes, width=_BAR_WIDTH) if known else "",
            f"{job.attempt}",
            age(job.seconds),
        )
    return table
