"""`ccfs-worker run`: the worker itself."""

import asyncio
from importlib.util import find_spec

import typer

from worker import app, logs, settings
from worker.cli.exits import SETTINGS


def run() -> None:
    """Run the worker until SIGTERM or SIGINT; settings come from WORKER_… variables."""
    try:
        loaded = settings.load()
        logs.configure(level=loaded.log.level, json=loaded.log.format == "json")
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(app.run(loaded))
    except settings.SettingsError as exc:
        for line in exc.lines:
            typer.echo(line, err=True)
        raise typer.Exit(SETTINGS) from None


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """The class of uvloop's loop where the platform has it, else None for asyncio's own."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - not on every platform

    return uvloop.Loop
