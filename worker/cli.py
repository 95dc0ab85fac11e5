"""The command line."""

import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version

import typer
import uvloop

from worker import app as worker_app
from worker import logs, settings

EXIT_SETTINGS = 2
"""The exit code for settings that are wrong or point at what cannot be used."""

cli = typer.Typer(
    name="ccfs-worker",
    help="Moves call records from CC-FS to shared storage: RabbitMQ jobs in, verified files out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@cli.command()
def run() -> None:
    """Run the worker until SIGTERM or SIGINT; settings come from WORKER_… variables."""
    try:
        loaded = settings.load()
        logs.configure(level=loaded.log.level, json=loaded.log.format == "json")
        uvloop.run(worker_app.run(loaded))
    except settings.SettingsError as exc:
        for line in exc.lines:
            typer.echo(line, err=True)
        raise typer.Exit(EXIT_SETTINGS) from None


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"ccfs-worker {installed_version('ccfs-worker')}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the console script and `python -m worker` come in here."""
    cli(list(sys.argv[1:] if arguments is None else arguments), prog_name="ccfs-worker")
