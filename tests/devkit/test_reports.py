"""The table of runs: what counts as passed, and that nothing bad looks good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.run.reports import Counts, read_report, table

TESTS = """
import pytest
def test_passes(): pass
def test_fails(): assert False
def test_cannot_be_set_up(no_such_fixture): pass
@pytest.mark.skip
def test_is_skipped(): pass
"""


def test_pytests_own_report_is_counted(tmp_path: Path) -> None:
    """What could not even be set up counts as failed."""
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, check=False)

    result = read_report((tmp_path / "report.xml").read_bytes())

    assert result == Counts(passed=1, failed=2, skipped=1)


@pytest.mark.parametrize(
    ("passed", "failed", "good"), [(1, 0, True), (1, 1, False), (0, 0, False)], ids=["all", "some", "none"]
)
def test_good_is_what_ran_and_did_not_fail(passed: int, failed: int, *, good: bool) -> None:
    assert Counts(passed, failed, skipped=0).good == good


def test_a_run_without_a_report_is_not_good() -> None:
    assert not read_report(b"<testsuite/>").good


def test_the_table_is_markdown() -> None:
    assert table(["rabbitmq", "debian"], [(["4.9.1", "sid"], Counts(1, 2, 3))]) == (
        "| rabbitmq | debian | passed | failed | skipped |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 4.9.1 | sid | 1 | 2 | 3 |"
    )
