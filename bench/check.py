"""Compare the ratios that matter with recorded ones: `make bench-check`."""

import json
from pathlib import Path

from bench.contestants import OBVIOUS, OURS
from bench.plan import CURL_THEN_HASH, FLOOR
from bench.results import Results

RECORD = Path("bench/recorded.json")
TOLERANCE = 0.2


def ratios(results: Results) -> dict[str, float]:
    """The ratios, each the better the larger."""

    def over(experiment: str, other: str, figure: str) -> float:
        table = results.tables[experiment]
        return table.median(OURS.name, figure) / table.median(other, figure)

    return {
        "S, jobs/s over the obvious worker's": over("S", OBVIOUS.name, "jobs_per_second"),
        "S, the obvious worker's CPU over ours": 1 / over("S", OBVIOUS.name, "cpu_per_1000_jobs"),
        "M, MB/s over the obvious worker's": over("M", OBVIOUS.name, "mb_per_second"),
        "M, the floor's CPU over ours": 1 / over("M", FLOOR, "cpu_per_gib"),
        "L, MB/s over curl's and sha256sum's": over("L", CURL_THEN_HASH, "mb_per_second"),
        "L, the floor's CPU over ours": 1 / over("L", FLOOR, "cpu_per_gib"),
    }


def record(measured: dict[str, float]) -> None:
    """Record the measured ratios: later runs are compared with them."""
    RECORD.write_text(json.dumps(measured, indent=2) + "\n")


def compare(measured: dict[str, float]) -> bool:
    """Print each ratio beside the recorded one. Return whether none fell by more than the tolerance.

    Raises:
        SystemExit: Other ratios were recorded.
    """
    recorded: dict[str, float] = json.loads(RECORD.read_text())
    if recorded.keys() != measured.keys():
        raise SystemExit(f"{RECORD} has other ratios: record them anew (make bench-check ARGS=--record).")
    fine = True
    for name, value in measured.items():
        fell = value < recorded[name] * (1 - TOLERANCE)
        fine &= not fell
        print(f"{name}: {value:.2f}, recorded {recorded[name]:.2f}{': FELL' if fell else ''}")
    return fine
