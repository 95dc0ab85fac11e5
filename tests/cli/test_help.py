"""Help and completion, as a shell's user has them."""

import json
from typing import Any

import pytest
import typer

from tests.commands import CCFS_WORKER, command
from worker.cli import COMMANDS, cli

WITH_EXAMPLES = ("check", "config", "top", "submit", "results", "fetch", "sign", "simulate")
IN_GROUPS = (
    *(("dead", name) for name in ("list", "show", "replay", "discard")),
    *(("failed", name) for name in ("list", "show", "retry", "forget")),
)
WITHOUT_OUTPUT = {("run",): "its log, which is JSON lines unless WORKER_LOG__FORMAT"}
"""Commands that write no JSON on demand, and what their help says of it."""


def all_commands() -> dict[tuple[str, ...], Any]:
    """Every command that there is, those in groups too, by its words."""
    found: dict[tuple[str, ...], Any] = {}

    def visit(group: Any, words: tuple[str, ...]) -> None:
        context = group.context_class(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if hasattr(command, "list_commands"):
                visit(command, (*words, name))
            else:
                found[*words, name] = command

    visit(typer.main.get_group(cli), ())
    return found


def test_every_command_writes_json_or_says_why_not() -> None:
    commands = all_commands()
    assert {words[0] for words in commands} == set(COMMANDS)

    without = {
        words
        for words, found in commands.items()
        if not any({"-o", "--output"} <= set(option.opts) for option in found.params)
    }

    assert without == set(WITHOUT_OUTPUT)
    for words, reason in WITHOUT_OUTPUT.items():
        assert reason in " ".join(commands[words].help.split())


@pytest.mark.parametrize("words", [*((name,) for name in WITH_EXAMPLES), *IN_GROUPS])
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


@pytest.mark.parametrize("words", [*((name,) for name in WITH_EXAMPLES), *IN_GROUPS])
def test_examples_stay_on_their_lines_at_80_columns(words: tuple[str, ...]) -> None:
    helped = command(CCFS_WORKER, *words, "-h", settings={"COLUMNS": "80"})

    lines = helped.stdout.partition("Examples:")[2].partition("╭")[0].splitlines()
    told = [line.strip() for line in lines if line.strip()]
    assert all(line.startswith(("ccfs-worker ", "kubectl ")) for line in told)


def test_the_version_is_told_as_elsewhere() -> None:
    assert command(CCFS_WORKER, "--version").stdout == command(CCFS_WORKER, "version").stdout


def test_a_flag_is_shown_without_a_type() -> None:
    assert "<bool>" not in command(CCFS_WORKER, "submit", "--help").stdout + command(CCFS_WORKER, "-h").stdout


@pytest.mark.parametrize(("typed", "meant"), [(("submti",), "submit"), (("failed", "retyr"), "retry")])
def test_a_mistyped_command_gets_a_suggestion(typed: tuple[str, ...], meant: str) -> None:
    mistyped = command(CCFS_WORKER, *typed)

    assert (mistyped.returncode, f"Did you mean '{meant}'?" in mistyped.stderr) == (2, True)


def test_the_version_is_there_for_scripts() -> None:
    told = json.loads(command(CCFS_WORKER, "version", "-o", "json").stdout)

    assert f"ccfs-worker {told['version']}\n" == command(CCFS_WORKER, "version").stdout
