"""What the experiments came to, as rows of a table."""

import json
from collections.abc import Sequence
from pathlib import Path

FILE = "VM_ROWS"
"""The variable that says where a run leaves its rows."""

Row = dict[str, str | int]
"""What came of one experiment, by the head of its column."""


def write(file: Path, row: Row) -> None:
    """Add a row to a file."""
    with file.open("a") as opened:
        opened.write(json.dumps(row) + "\n")


def read(file: Path) -> list[Row]:
    """Give the rows of a file; none if it is not there."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(rows: Sequence[Row]) -> str:
    """Show rows that have the same columns, in Markdown."""
    heads = list(rows[0]) if rows else []
    lines = [heads, ["---"] * len(heads), *([str(row[head]) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
