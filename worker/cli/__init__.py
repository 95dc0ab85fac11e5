"""The command line. Each command is a module; this one loads them."""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from worker.cli.exit_codes import BROKER, FAILED, SETTINGS
from worker.cli.manual import help_of
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
    "dead",
    "sign",
    "simulate",
    "version",
)
"""The commands; each is the object of its name in the module of its name."""


_Command = TyperCommand | TyperGroup


class _Commands(TyperGroup):
    """Imports a command when it is called: importing all takes a second, even for each shell completion."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - typer calls it so
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> _Command | None:  # noqa: ARG002 - as above
        return _load(cmd_name) if cmd_name in COMMANDS else None


cli = typer.Typer(
    name="ccfs-worker",
    cls=_Commands,
    help="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    # A group whose commands come later has to have a callback.
    callback=lambda: None,
)


@cache
def _load(name: str) -> _Command:
    made = getattr(import_module(f"worker.cli.{name}"), name)
    if isinstance(made, typer.Typer):
        return typer.main.get_group(made)
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name, help=help_of(made))(made)
    return cast("TyperCommand", typer.main.get_command(alone))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Entry point of the console script and of `python -m worker`."""
    # Our errors already say what happens; `run` and `simulate` set up a log themselves.
    logs.silence()
    try:
        cli(list(sys.argv[1:] if arguments is None else arguments), prog_name="ccfs-worker")
    except SettingsError as exc:
        _end(SETTINGS, *exc.lines)
    except BrokerError as exc:
        _end(BROKER, str(exc))
    except JobError as exc:
        _end(FAILED, str(exc))


def _end(code: int, *lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    sys.exit(code)
