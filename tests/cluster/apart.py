"""Namespaces of its own for what runs a cluster: network, mounts and processes (namespaces(7)).

When the command ends, however that is, the kernel ends the processes in them and undoes the rest. Only logs
are left, in a folder below `.run/cluster`.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devkit import ROOT
from devkit.run import programs, system

FOLDER = ROOT / ".run" / "cluster"
_VARIABLE = "CLUSTER_FOLDER"
_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# /run is the command's own, since `ip netns` names namespaces there.
_PREPARED = ("sh", "-c", 'mount -t tmpfs lab /run && ip link set lo up && exec "$@"', "sh")
_APART = ("setpriv", "--pdeathsig", "KILL", *_NAMESPACES, *_PREPARED)


def check_machine(target: str) -> None:
    """See that this machine can make namespaces, and has what the lab needs.

    Raises:
        SystemExit: It cannot; the text names the target and says why.
    """
    if os.geteuid() != 0:
        raise SystemExit(f"{target} needs root: it makes network namespaces.")
    programs.find("ip")
    tried = subprocess.run(
        [*_APART, "true"], env=_environment({}), capture_output=True, text=True, check=False
    )
    if tried.returncode:
        raise SystemExit(f"{target} cannot make namespaces here: {tried.stderr.strip()}")


def run(*command: str, folder: Path, **variables: str) -> int:
    """Run a command in namespaces of its own.

    Args:
        command: The command and its arguments.
        folder: Emptied, and used for temporary files and logs; `current_folder` gives it to the command.
        variables: Further variables of its environment.

    Returns:
        Its exit code.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = {**variables, _VARIABLE: str(folder), "TMPDIR": str(folder)}
    return subprocess.run([*_APART, *command], cwd=ROOT, env=_environment(own), check=False).returncode


def current_folder() -> Path | None:
    """Give the folder of the command that we are; None outside of namespaces made by `run`."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder) if folder else None


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PATH": system.search_path(), **variables}
