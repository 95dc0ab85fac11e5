"""Write the report of a run: `docs/performance/report.md` and its plots."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import goals
from bench.contestants import PEERS_PYTHON
from bench.results import Results, Table

FOLDER = Path("docs/performance")
RESULTS_FILE = FOLDER / "results.json"
ADDED = ("fair", "held", "waits", "failed")
"""Tables of other commands: a run of the benchmark leaves them as they are."""

_COLUMNS = {
    "jobs_per_second": "jobs/s",
    "mb_per_second": "MB/s",
    "cpu_per_1000_jobs": "CPU s/1,000 jobs",
    "cpu_per_gib": "CPU s/GiB",
    "receive_per_gib": "receive",
    "decrypt_per_gib": "decrypt",
    "sha256_per_gib": "SHA-256",
    "crc32_per_gib": "CRC-32",
    "write_per_gib": "write, fsync",
    "peak_mib": "peak MiB",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "request_ms": "request ms",
    "file_ms": "file ms",
    "confirm_ms": "confirm ms",
    "delivery_ms": "delivery ms",
    "broker_cpu_per_1000_jobs": "RabbitMQ's CPU s/1,000 jobs",
    "first_s": "first job s",
    "p50_s": "p50 s",
    "p95_s": "p95 s",
    "hold_s": "until held s",
    "run_s": "from the new key to the last job s",
    "seconds": "time s",
    "cpu_seconds": "CPU s",
    "around_p95_ms": "p95 of others ms",
    "worker_cores": "worker's cores",
    "broker_cores": "RabbitMQ's cores",
    "broker_mib": "RabbitMQ's MiB",
}


def write(results: Results) -> None:
    """Write the report and draw the plots."""
    for plot in FOLDER.glob("*.png"):
        if plot.stem not in results.tables:
            plot.unlink()
    (FOLDER / "report.md").write_text("\n".join([*_lines(results), ""]))
    subprocess.run([PEERS_PYTHON, "-m", "bench.peers.plots", RESULTS_FILE, FOLDER], check=True)


def add(tables: dict[str, Table]) -> None:
    """Write the report with further tables, in the place of those of the same keys."""
    results = Results.read(RESULTS_FILE)
    results = replace(results, tables=results.tables | tables)
    results.write(RESULTS_FILE)
    write(results)


def _lines(results: Results) -> Iterator[str]:
    yield "# Report of the benchmark"
    yield ""
    yield "Every figure is a median, with minimum and maximum beside it; below each table stands the command."
    yield "How the figures come about and what follows from them is in [performance](../performance.md)."
    yield from ("", "| machine | |", "| --- | --- |")
    yield from (f"| {name} | {value} |" for name, value in results.machine.items())
    yield from ("", "## Goals", "", *_goals(results))
    for key, table in results.tables.items():
        yield from ("", f"## {table.title}", "", *_rows(table), "", f"`{table.command}`")
        yield from ("", f"![{table.title}]({key}.png)")


def _goals(results: Results) -> Iterator[str]:
    yield "| experiment | ratio | goal | measured | |"
    yield "| --- | --- | --- | --- | --- |"
    for verdict in goals.verdicts(results):
        goal = verdict.goal
        bound = f"{'>=' if goal.at_least else '<='} {goal.bound:g}"
        mark = "reached" if verdict.reached else "**missed**"
        yield f"| {goal.ours.experiment} | {_plain(goal.text)} | {bound} | {verdict.value:.2f} | {mark} |"


def _plain(text: str) -> str:
    for figure, column in _COLUMNS.items():
        text = text.replace(figure, column)
    return text


def _rows(table: Table) -> Iterator[str]:
    figures = [name for name in _COLUMNS if any(name in row for row in table.rows.values())]
    yield f"| | {' | '.join(_COLUMNS[name] for name in figures)} |"
    yield f"| --- {'| ---: ' * len(figures)}|"
    for entrant, row in table.rows.items():
        yield f"| {entrant} | {' | '.join(_cell(row.get(name, [])) for name in figures)} |"


def _cell(samples: list[float]) -> str:
    if not samples:
        return ""
    middle, low, high = (_number(value) for value in (median(samples), min(samples), max(samples)))
    return middle if low == high else f"{middle} ({low}-{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits tell enough
