"""Count the tests of a pytest run, and show runs as a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Counts:
    """How the tests of one run went.

    Attributes:
        passed: Tests.
        failed: Tests that failed or could not be set up.
        skipped: Tests that do not apply.
    """

    passed: int
    failed: int
    skipped: int

    @property
    def good(self) -> bool:
        """Whether there were tests, and none failed."""
        return self.passed > 0 and not self.failed


def read_report(report: bytes) -> Counts:
    """Read pytest's report in JUnit's format."""
    suites = list(ET.fromstring(report).iter("testsuite"))  # noqa: S314 - pytest wrote it

    def total(name: str) -> int:
        return sum(int(found.get(name, 0)) for found in suites)

    failed, skipped = total("failures") + total("errors"), total("skipped")
    return Counts(total("tests") - failed - skipped, failed, skipped)


def table(heads: Sequence[str], rows: Iterable[tuple[Sequence[str], Counts]]) -> str:
    """Show runs as a table, in Markdown.

    Args:
        heads: The columns that identify a run.
        rows: For each run, the values of these columns, and how it went.
    """
    lines: list[Sequence[str]] = [
        [*heads, "passed", "failed", "skipped"],
        ["---"] * (len(heads) + 3),
        *([*names, str(run.passed), str(run.failed), str(run.skipped)] for names, run in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
