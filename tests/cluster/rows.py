"""What the runs on a cluster came to, as rows of a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "rows.jsonl"
"""Where a run leaves them, in its folder."""
HEADS = ("fault", "jobs", "lost", "duplicated", "unexpected", "partial", "longest gap")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one fault.

    Attributes:
        fault: What it was.
        jobs: Jobs published.
        lost: As in `devkit.demo.ledger.Counts`; so are the next three.
        gap: The longest time, in seconds from the fault on, in which no job had its outcome.
    """

    fault: str
    jobs: int
    lost: int
    duplicated: int
    unexpected: int
    partial: int
    gap: float

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the table beside the fault."""
        numbers = (self.jobs, self.lost, self.duplicated, self.unexpected, self.partial)
        return (*map(str, numbers), f"{self.gap:.0f} s")

    def __str__(self) -> str:
        named = zip(HEADS[1:], self.cells, strict=True)
        return f"{self.fault}: {', '.join(f'{head} {cell}' for head, cell in named)}"


def write(file: Path, row: Row) -> None:
    """Add a row to a file."""
    with file.open("a") as opened:
        opened.write(json.dumps(asdict(row)) + "\n")


def read(file: Path) -> list[Row]:
    """Give the rows of a file; none if it is not there."""
    return [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def table(runs: Sequence[Sequence[Row]]) -> str:
    """Show runs of the same faults beside each other, in Markdown: `1 / 2` is 1 in the first run."""
    by_fault = [{row.fault: row for row in rows} for rows in runs]
    lines = [HEADS, ["---"] * len(HEADS), *_lines(by_fault)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lines(by_fault: Sequence[Mapping[str, Row]]) -> Iterator[Sequence[str]]:
    missing = ("-",) * (len(HEADS) - 1)
    for fault in dict.fromkeys(fault for rows in by_fault for fault in rows):
        cells = [rows[fault].cells if fault in rows else missing for rows in by_fault]
        yield [fault, *(" / ".join(beside) for beside in zip(*cells, strict=True))]
