"""The command line: one module a command, put together here."""

import sys
from collections.abc import Sequence

import typer

from worker.cli.run import run
from worker.cli.simulate import simulate
from worker.cli.version import version

cli = typer.Typer(
    name="ccfs-worker",
    help="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for command in (run, simulate, version):
    cli.command()(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the console script and `python -m worker` come in here."""
    cli(list(sys.argv[1:] if arguments is None else arguments), prog_name="ccfs-worker")
