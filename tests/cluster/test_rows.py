"""The table that `make test-cluster` ends with."""

from pathlib import Path

from tests.cluster.rows import Row, read, table, write


def row(fault: str, *, jobs: int, gap: float) -> Row:
    return Row(fault=fault, jobs=jobs, lost=0, duplicated=2, unexpected=0, partial=0, gap=gap)


def test_versions_stand_beside_each_other() -> None:
    """A fault that one version has no row of, since its test failed, is seen to be missing."""
    old = [row("kill", jobs=200, gap=1.6)]
    new = [row("kill", jobs=210, gap=2.4), row("cut", jobs=9, gap=0)]

    assert table([old, new]).splitlines()[2:] == [
        "| kill | 200 / 210 | 0 / 0 | 2 / 2 | 0 / 0 | 0 / 0 | 2 s / 2 s |",
        "| cut | - / 9 | - / 0 | - / 2 | - / 0 | - / 0 | - / 0 s |",
    ]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    """A run leaves its rows in a file; a run that ended before its first row leaves none."""
    file, kept = tmp_path / "rows.jsonl", [row("kill", jobs=200, gap=1.5), row("cut", jobs=9, gap=0)]
    assert read(file) == []
    for one in kept:
        write(file, one)
    assert read(file) == kept
