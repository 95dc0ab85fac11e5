"""What `ccfs-worker top` puts on the terminal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.filesize import pick_unit_and_suffix
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.cli.terminal import age
from worker.errors import one_line
from worker.observe.status import JobStatus, State, Status

_STYLES: Mapping[State, str] = {
    State.WORKING: "green",
    State.PAUSED: "yellow",
    State.DRAINING: "yellow",
    State.DISCONNECTED: "red",
}
_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
_BAR_WIDTH = 20
_FEWEST_JOBS = 3


class StatusAnswer(NamedTuple):
    """What a worker said when asked for its status; None and the problem when it said nothing of use."""

    url: str
    status: Status | None
    problem: str


def frame(answers: Sequence[StatusAnswer], height: int | None = None) -> RenderableType:
    """The whole screen.

    Args:
        answers: What the workers said.
        height: Lines of the terminal; jobs beyond them are only counted.
    """
    statuses = [answer.status for answer in answers if answer.status is not None]
    problems = list(_problems(answers))
    queues, codes = _queues(statuses), _codes(statuses)
    between = Table.grid(padding=(0, 4))
    between.add_row(*(table for table in (queues, codes) if table.row_count))
    used = 6 + len(answers) + len(problems) + max(queues.row_count, codes.row_count)
    most = None if height is None else max(_FEWEST_JOBS, height - used)
    return Group(_workers(answers), *problems, "", between, "", *_jobs(statuses, most))


def _workers(answers: Sequence[StatusAnswer]) -> Table:
    table = _table("WORKER", "STATE", numbers=_FIGURES)
    for url, status, _ in answers:
        if status is None:
            table.add_row(Text(one_line(url)), Text("no answer", style="red"))
            continue
        state = Text(status.state, style=_STYLES[status.state])
        table.add_row(Text(one_line(status.host)), state, *_figures(status))
    return table


_FIGURES = (
    "IN FLIGHT",
    "AT ONCE",
    "DONE/s",
    "FAILED/s",
    "RETRIED/s",
    "BYTES/s",
    "DONE",
    "FAILED",
    "FREE",
    "UP",
)


def _figures(status: Status) -> Iterator[str]:
    intake, rates = status.intake, status.rates
    limit = f"{intake.concurrency_limit}"
    yield f"{intake.in_flight}"
    yield limit if intake.concurrency_limit >= intake.concurrency else f"{limit} of {intake.concurrency}"
    yield from (f"{rate:.1f}" for rate in (rates.completed, rates.failed, rates.retried))
    yield _bytes(rates.downloaded_bytes)
    yield f"{status.totals.completed:,}"
    yield f"{status.totals.failed:,}"
    yield "unknown" if status.storage.free_bytes is None else _bytes(status.storage.free_bytes)
    yield age(status.uptime_seconds)


def _problems(answers: Sequence[StatusAnswer]) -> Iterator[Text]:
    """What is wrong, a line each."""
    for url, status, problem in answers:
        if status is None:
            wrong = [f"{url} {problem}"]
        else:
            failed = ((name, check.detail) for name, check in status.checks.items() if not check.ok)
            wrong = [f"{status.host} {name}: {detail}" for name, detail in failed]
        yield from (Text(one_line(f"✗ {line}"), style="red") for line in wrong)


def _queues(statuses: Sequence[Status]) -> Table:
    """By queue, the messages ready in it; of several workers with one broker, the latest look wins."""
    table = _table("QUEUE", numbers=["MESSAGES"])
    known = [status.queues for status in statuses if status.queues.age_seconds is not None]
    ready: dict[str, int] = {}
    for queues in sorted(known, key=lambda queues: -(queues.age_seconds or 0)):
        ready |= queues.ready
    for name, count in ready.items():
        table.add_row(Text(one_line(name)), f"{count:,}")
    return table


def _codes(statuses: Sequence[Status]) -> Table:
    """By error code, the attempts and the jobs that failed."""
    table = _table("CODE", numbers=["ATTEMPTS", "JOBS FAILED"])
    failed = _summed(status.totals.outcomes_failed for status in statuses)
    for code, count in _summed(status.totals.attempts_failed for status in statuses).most_common():
        table.add_row(Text(one_line(code)), f"{count:,}", f"{failed[code]:,}")
    return table


def _summed(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _jobs(statuses: Sequence[Status], most: int | None) -> Iterator[RenderableType]:
    held = [(status.host, job) for status in statuses for job in status.jobs]
    if not held:
        yield Text("Nothing in flight.", style="dim")
        return
    held.sort(key=lambda entry: -entry[1].seconds)
    table = _table("IN FLIGHT", "APP", "WORKER", "STEP", "RECEIVED", "", numbers=["ATTEMPT", "FOR"])
    for host, job in islice(held, most):
        table.add_row(*_job(host, job))
    yield table
    if most is not None and len(held) > most:
        yield Text(f"and {len(held) - most} more", style="dim")


def _job(host: str, job: JobStatus) -> Iterator[RenderableType]:
    yield Text(one_line(job.bill_file_name or job.job_id))
    yield Text(one_line(job.app_id or "unreadable"))
    yield Text(one_line(host))
    yield Text(one_line(f"{job.step}: {job.problem}" if job.problem else job.step))
    known = job.announced_bytes is not None
    yield f"{_bytes(job.received_bytes)} of {_bytes(job.announced_bytes or 0)}" if known else ""
    yield ProgressBar(job.announced_bytes or 1, job.received_bytes, width=_BAR_WIDTH) if known else ""
    yield f"{job.attempt}"
    yield age(job.seconds)


def _table(*head: str, numbers: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _bytes(count: float) -> str:
    unit, suffix = pick_unit_and_suffix(int(count), _UNITS, 1024)
    return f"{count / unit:.1f} {suffix}" if unit > 1 else f"{count:.0f} {suffix}"
