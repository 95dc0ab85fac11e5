"""Runs the installed commands as a shell does."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CCFS_WORKER = str(Path(sys.executable).with_name("ccfs-worker"))
PYTHON_M_WORKER = (sys.executable, "-m", "worker")


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command that has these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return {**inherited, **(settings or {})}


def command(
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    typed: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these settings and no others, and with this on its standard input."""
    return subprocess.run(
        arguments,
        env=environment(settings),
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        input=typed,
    )
