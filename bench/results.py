"""The figures of a run, and the JSON file that keeps them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Self


def shown(figures: Mapping[str, float]) -> str:
    """A sample as a line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


@dataclass(frozen=True, slots=True)
class Table:
    """One experiment's figures.

    Attributes:
        title: Its heading.
        headline: The figure that its plot shows.
        command: What was typed to measure it.
        rows: For each entrant the samples of each figure.
    """

    title: str
    headline: str
    command: str
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, entrant: str, figures: Mapping[str, float]) -> None:
        """Add a sample."""
        row = self.rows.setdefault(entrant, {})
        for name, value in figures.items():
            row.setdefault(name, []).append(value)

    def median(self, entrant: str, figure: str) -> float:
        """The median of an entrant's samples. Raises KeyError when it has none."""
        return median(self.rows[entrant][figure])


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A run.

    Attributes:
        machine: Names and values that describe the machine and the versions.
        tables: The experiments by key.
    """

    machine: dict[str, str]
    tables: dict[str, Table] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON file."""
        fields = json.loads(path.read_text())
        tables = {key: Table(**table) for key, table in fields.pop("tables").items()}
        return cls(tables=tables, **fields)
