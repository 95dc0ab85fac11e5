"""Help and completion, as a shell's user has them."""

import pytest

from tests.commands import CCFS_WORKER, command
from worker.cli import COMMANDS

WITH_EXAMPLES = ("check", "config", "top", "submit", "results", "fetch", "sign")
DEAD = ("list", "show", "replay", "discard")


@pytest.mark.parametrize("words", [*((name,) for name in WITH_EXAMPLES), *(("dead", name) for name in DEAD)])
def test_the_help_gives_examples_that_one_can_copy(words: tuple[str, ...]) -> None:
    helped = command(CCFS_WORKER, *words, "--help", settings={"COLUMNS": "200"})

    examples = helped.stdout.partition("Examples:")[2].splitlines()
    assert [line for line in examples if line.strip().startswith(f"ccfs-worker {' '.join(words)}")]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ccfs-worker ", sorted(COMMANDS)),
        ("ccfs-worker su", ["submit"]),
        ("ccfs-worker dead re", ["replay"]),
        ("ccfs-worker submit --dr", ["--dry-run"]),
        ("ccfs-worker check --output ", ["json", "text"]),
    ],
)
def test_the_shell_completes(typed: str, completed: list[str]) -> None:
    """As bash asks for it, with the script that `--show-completion` prints."""
    asked = {
        "_CCFS_WORKER_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }

    assert sorted(command(CCFS_WORKER, settings=asked).stdout.split()) == completed
