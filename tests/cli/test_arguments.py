"""The command line as a shell and its user see it."""

from importlib.metadata import version

import pytest

from tests.commands import CCFS_WORKER, PYTHON_M_WORKER, command
from worker.cli import COMMANDS


def test_version_says_what_is_installed() -> None:
    run = command(CCFS_WORKER, "version")

    assert (run.returncode, run.stdout, run.stderr) == (0, f"ccfs-worker {version('ccfs-worker')}\n", "")


def test_help_lists_every_command() -> None:
    run = command(CCFS_WORKER, "--help")

    assert run.returncode == 0
    assert run.stderr == ""
    assert not [name for name in COMMANDS if f" {name} " not in run.stdout]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_is_for(name: str) -> None:
    run = command(CCFS_WORKER, name, "--help")

    assert run.returncode == 0
    assert f"Usage: ccfs-worker {name}" in run.stdout


def test_no_command_is_a_question_that_the_help_answers() -> None:
    run = command(CCFS_WORKER)

    assert run.returncode == 2
    assert "Usage: ccfs-worker" in run.stdout + run.stderr


@pytest.mark.parametrize("arguments", [("nonsense",), ("run", "--nonsense"), ("run", "nonsense")])
def test_what_is_no_command_or_option_is_refused_in_a_few_lines(arguments: tuple[str, ...]) -> None:
    run = command(CCFS_WORKER, *arguments)

    assert run.returncode == 2
    assert "nonsense" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_package_runs_the_worker() -> None:
    run = command(*PYTHON_M_WORKER, "--help")

    assert run.returncode == 0
    assert "Usage: ccfs-worker run" in run.stdout
