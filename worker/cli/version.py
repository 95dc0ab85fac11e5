"""`ccfs-worker version`: what is installed."""

from importlib.metadata import version as installed_version

import typer

from worker.cli import terminal
from worker.cli.terminal import Output, OutputOption


def version(*, output_format: OutputOption = Output.TEXT) -> None:
    """Print the version."""
    number = installed_version("ccfs-worker")
    if output_format is Output.JSON:
        terminal.json_line({"version": number})
    else:
        typer.echo(f"ccfs-worker {number}")
