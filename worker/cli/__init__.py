"""The command line. Each command is a module of its name; the others are what commands share."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version as installed_version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from worker.cli.exit_codes import BROKER, FAILED, SETTINGS
from worker.cli.manual import Command, CommandGroup, help_of
from worker.errors import BrokerError, JobError
from worker.observe import logs
from worker.settings import SettingsError

COMMANDS = (
    "run",
    "check",
    "config",
    "top",
    "submit",
    "results",
    "fetch",
    "failed",
    "dead",
    "sign",
    "simulate",
    "version",
)
"""The commands; each is the object of its name in the module of its name."""


class _Commands(CommandGroup):
    """Imports a command when it is called: importing all takes a second, even for each shell completion."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - typer calls it so
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:  # noqa: ANN401 - as there
        if cmd_name not in COMMANDS:
            close = get_close_matches(cmd_name, COMMANDS, n=1)
            if close and not ctx.resilient_parsing and not cmd_name.startswith("-"):
                ctx.fail(f"No such command '{cmd_name}'. Did you mean '{close[0]}'?")
            return None
        command = getattr(import_module(f"worker.cli.{cmd_name}"), cmd_name)
        if isinstance(command, typer.Typer):
            return typer.main.get_group(command)
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(cmd_name, cls=Command, help=help_of(command))(command)
        return cast("TyperCommand", typer.main.get_command(alone))


def _global(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"ccfs-worker {installed_version('ccfs-worker')}")
        raise typer.Exit


cli = typer.Typer(
    name="ccfs-worker",
    cls=_Commands,
    help="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files out.",
    # With `--version` no command is needed.
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    # A group whose commands come later has to have a callback.
    callback=_global,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Entry point of the console script and of `python -m worker`."""
    # Our errors already say what happens; `run` and `simulate` set up a log themselves.
    logs.silence()
    try:
        cli(list(sys.argv[1:] if arguments is None else arguments), prog_name="ccfs-worker")
    except SettingsError as exc:
        code, lines = SETTINGS, exc.lines
    except BrokerError as exc:
        code, lines = BROKER, (str(exc),)
    except JobError as exc:
        code, lines = FAILED, (str(exc),)
    else:
        return
    for line in lines:
        typer.echo(line, err=True)
    sys.exit(code)
