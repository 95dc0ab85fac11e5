"""`ccfs-worker version`: what is installed."""

from importlib.metadata import version as installed_version

import typer


def version() -> None:
    """Print the version."""
    typer.echo(f"ccfs-worker {installed_version('ccfs-worker')}")
