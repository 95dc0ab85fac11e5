"""The state directory of `ccfs-worker simulate`: keys, and how to reach the running simulator."""

import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from worker.cli import terminal
from worker.cli.terminal import Output
from worker.settings import SettingsError
from worker.simulator import Simulator

ENV_FILE = "simulator.env"
"""The file in it that holds the settings of a worker that uses the running simulator."""

ACCOUNTS = ("app1", "app2")
"""Accounts that get a key where there are none yet."""


def key_directory(given: Path | None, state: Path) -> Path:
    """Give the directory of keys: the one that was asked for, else one in the state directory.

    Raises:
        SettingsError: The first is no directory, or the second cannot be kept.
    """
    if given is not None:
        if not given.is_dir():
            raise SettingsError([f"--keys: {given} is no directory; it must hold one file per appId"])
        return given
    directory = state / "keys"
    with naming_os_errors(f"--state: cannot keep keys in {directory}"):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not any(directory.iterdir()):
            for account in ACCOUNTS:
                # The mode comes first: the key must not be readable by others for a moment.
                (directory / account).touch(mode=0o600)
                (directory / account).write_text(f"{secrets.token_hex(16)}\n")
    return directory


@contextmanager
def announced(simulator: Simulator, keys: Path, env_file: Path, output_format: Output) -> Iterator[None]:
    """Say how to reach the simulator, and keep it in a file for as long as it is up."""
    settings = {"WORKER_CCFS__BASE_URL": simulator.url, "WORKER_CREDENTIALS__DIR": str(keys.absolute())}
    if simulator.ca_file is not None:
        settings["WORKER_CCFS__CA_FILE"] = str(simulator.ca_file.absolute())
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    env_file.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: a script that waits for the file must not read half of it.
    unfinished = env_file.with_suffix(".part")
    unfinished.write_text(lines)
    unfinished.replace(env_file)
    if output_format is Output.JSON:
        terminal.json_line({"url": simulator.url, "settings": settings, "envFile": str(env_file)})
    else:
        typer.echo(f"CC-FS simulator at {simulator.url} (Ctrl-C ends it)\n\n{lines}\n(also in {env_file})")
    try:
        yield
    finally:
        env_file.unlink(missing_ok=True)


@contextmanager
def naming_os_errors(what: str) -> Iterator[None]:
    """Raise an OSError of the block as a SettingsError that begins with `what`."""
    try:
        yield
    except OSError as exc:
        raise SettingsError([f"{what}: {os.strerror(exc.errno) if exc.errno else exc}"]) from exc
