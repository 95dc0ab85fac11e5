"""The command line: one module a command, put together here."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from worker import logs
from worker.cli.check import check
from worker.cli.config import config
from worker.cli.dead import dead
from worker.cli.exits import BROKER, FAILED, SETTINGS
from worker.cli.fetch import fetch
from worker.cli.manual import help_of
from worker.cli.results import results
from worker.cli.run import run
from worker.cli.sign import sign
from worker.cli.simulate import simulate
from worker.cli.submit import submit
from worker.cli.version import version
from worker.errors import BrokerError, JobError
from worker.settings import SettingsError

cli = typer.Typer(
    name="ccfs-worker",
    help="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for command in (run, check, config, submit, results, fetch, sign, simulate, version):
    cli.command(help=help_of(command))(command)
cli.add_typer(dead, name="dead")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the console script and `python -m worker` come in here."""
    # What happens is told by our errors already; `run` and `simulate` set up a log themselves.
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
