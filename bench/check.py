"""Compares the ratios that matter with recorded ones: `make bench-check`."""

import json
from pathlib import Path

from bench.contestants import OBVIOUS, OURS
from bench.plan import BARE
from bench.results import Results

RECORD = Path("bench/recorded.json")
TOLERANCE = 0.2


def ratios(results: Results) -> dict[str, float]:
    """The ratios, each the better the larger."""
    table = results.tables["S-ram"]

    def ours_over(other: str, figure: str) -> float:
        return table.median(OURS.name, figure) / table.median(other, figure)

    return {
        "jobs/s over the bare round trip's": ours_over(BARE.name, "jobs_per_second"),
        "jobs/s over the obvious worker's": ours_over(OBVIOUS.name, "jobs_per_second"),
        "the obvious worker's CPU over ours": 1 / ours_over(OBVIOUS.name, "cpu_per_1000_jobs"),
    }


def record(measured: dict[str, float]) -> None:
    """Make the measured ratios those to compare with."""
    RECORD.write_text(json.dumps(measured, indent=2) + "\n")


def compare(measured: dict[str, float]) -> bool:
    """Print each ratio beside the recorded one; gives whether none fell by more than the tolerance."""
    recorded: dict[str, float] = json.loads(RECORD.read_text())
    fine = True
    for name, value in measured.items():
        fell = value < recorded[name] * (1 - TOLERANCE)
        fine &= not fell
        print(f"{name}: {value:.2f}, recorded {recorded[name]:.2f}{': FELL' if fell else ''}")
    return fine
