"""The ratios that the worker is to reach."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.contestants import EARLIER, FRAMEWORKS, OBVIOUS, OURS, PEERS, Contestant
from bench.plan import BARE, CURL_PARALLEL, CURL_THEN_HASH, FLOOR
from bench.results import Results

_RATE, _MB, _CPU_JOB, _CPU_GIB, _P99, _PEAK = (
    "jobs_per_second",
    "mb_per_second",
    "cpu_per_1000_jobs",
    "cpu_per_gib",
    "p99_ms",
    "peak_mib",
)
_BEST_PEER = "the best peer"
_BEST_FRAMEWORK = "the best framework"
_GROUPS: Mapping[str, Sequence[Contestant]] = {_BEST_PEER: PEERS, _BEST_FRAMEWORK: FRAMEWORKS}


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of an entrant of an experiment."""

    experiment: str
    entrant: str
    figure: str


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure over another, or alone where there is no reference; bounded from below or from above."""

    text: str
    ours: Cell
    reference: Cell | None
    bound: float
    at_least: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was measured."""

    goal: Goal
    value: float

    @property
    def reached(self) -> bool:
        """Whether the bound is kept."""
        return self.value >= self.goal.bound if self.goal.at_least else self.value <= self.goal.bound


def _against(experiment: str, figure: str, reference: str, bound: float, *, at_least: bool = True) -> Goal:
    ours = Cell(experiment, OURS.name, figure)
    return Goal(f"{figure} ÷ {reference}", ours, Cell(experiment, reference, figure), bound, at_least)


def _between(experiment: str, figure: str, a: str, b: str, bound: float, *, at_least: bool = True) -> Goal:
    return Goal(
        f"{figure}: {a} ÷ {b}", Cell(experiment, a, figure), Cell(experiment, b, figure), bound, at_least
    )


GOALS: Sequence[Goal] = (
    _against("S", _RATE, EARLIER.name, 1.1),
    _against("S", _RATE, OBVIOUS.name, 2),
    _against("S", _RATE, _BEST_FRAMEWORK, 2.5),
    _against("S", _RATE, BARE.name, 0.6),
    _against("S", _CPU_JOB, OBVIOUS.name, 0.5, at_least=False),
    _against("S", _P99, OBVIOUS.name, 0.5, at_least=False),
    _against("M", _MB, EARLIER.name, 1.25),
    _against("M", _MB, _BEST_PEER, 1.4),
    _against("M", _MB, CURL_PARALLEL, 0.9),
    _against("M", _CPU_GIB, FLOOR, 1.6, at_least=False),
    _against("L", _MB, EARLIER.name, 0.95),
    _against("L", _MB, CURL_THEN_HASH, 0.95),
    _against("L", _CPU_GIB, CURL_THEN_HASH, 1.1, at_least=False),
    _against("L", _CPU_GIB, FLOOR, 1.3, at_least=False),
    _against("S-plain", _RATE, EARLIER.name, 0.9),
    _against("M-plain", _MB, EARLIER.name, 0.9),
    _against("L-plain", _MB, EARLIER.name, 0.9),
    _against("S-disk", _RATE, OBVIOUS.name, 2),
    Goal(
        "jobs_per_second on disk ÷ on RAM", Cell("S-disk", OURS.name, _RATE), Cell("S", OURS.name, _RATE), 0.7
    ),
    *(
        _between("entries", _CPU_JOB, f"{files}, listed", f"{files}, not listed", 1.05, at_least=False)
        for files in ("20 KiB", "4 MiB")
    ),
    *(
        Goal(f"peak_mib: {entrant}", Cell("memory", entrant, _PEAK), None, bound, at_least=False)
        for entrant, bound in (
            ("1 GiB, alone", 80),
            ("4 MiB, 8 concurrent", 120),
            ("4 MiB, 128 concurrent", 120),
            ("20 KiB, 128 concurrent", 120),
        )
    ),
    _between("depth", _RATE, "50000 queued", "1000 queued", 0.9),
    _between("depth", _PEAK, "50000 queued", "1000 queued", 1.05, at_least=False),
    _between("concurrency", _CPU_JOB, "128 concurrent", "8 concurrent", 1.15, at_least=False),
    _between("concurrency", _RATE, "512 concurrent", "32 concurrent", 0.8),
    _between("lone", "p50_ms", "a job", "its parts", 2, at_least=False),
)


def verdicts(results: Results) -> Iterator[Verdict]:
    """Measure each goal whose figures a run has."""
    for goal in GOALS:
        try:
            yield Verdict(goal, _value(goal, results))
        except KeyError:
            continue


def _value(goal: Goal, results: Results) -> float:
    ours = _median(goal.ours, results)
    return ours if goal.reference is None else ours / _median(goal.reference, results)


def _median(cell: Cell, results: Results) -> float:
    table = results.tables[cell.experiment]
    if group := _GROUPS.get(cell.entrant):
        return max(table.median(each.name, cell.figure) for each in group if each.name in table.rows)
    return table.median(cell.entrant, cell.figure)
