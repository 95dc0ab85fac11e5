"""Run workers against clusters of three RabbitMQ nodes: `python -m tests.cluster`, or `make test-cluster`.

`RABBITMQ` names the Debian suites whose RabbitMQ is run; all arguments are pytest's.

The lab has namespaces of its own for network, mounts and processes (namespaces(7)). When it ends, however
that is, the kernel ends the processes in them and undoes the rest. Only logs are left, in `.run/cluster`.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devkit import ROOT
from devkit.run import debian, programs, server, system
from tests.cluster import rows

SUITES = ("bookworm", "sid")
_FOLDER = ROOT / ".run" / "cluster"
_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# /run is the lab's own, since `ip netns` names namespaces there.
_PREPARED = ("sh", "-c", 'mount -t tmpfs lab /run && ip link set lo up && exec "$@"', "sh")
_APART = ("setpriv", "--pdeathsig", "KILL", *_NAMESPACES, *_PREPARED)


def main() -> None:
    """Run the tests on one version after the other, print the table, and exit with 1 unless all is well."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _check_machine()
    suites = os.environ.get(server.SUITE, "").split() or SUITES
    trees = {suite: debian.unpack(suite) for suite in suites}
    versions = [debian.version(tree) for tree in trees.values()]
    codes = []
    for suite, version in zip(suites, versions, strict=True):
        print(f"Three nodes of RabbitMQ {version} (Debian {suite}):", flush=True)
        codes.append(_run(suite, sys.argv[1:]))
    print(f"RabbitMQ {' / '.join(versions)}:\n")
    print(rows.table([rows.read(_folder(suite) / "rows.jsonl") for suite in suites]))
    sys.exit(any(codes))


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise SystemExit("make test-cluster needs root: it makes network namespaces.")
    programs.find("ip")
    tried = _in_namespaces("true", capture_output=True)
    if tried.returncode:
        raise SystemExit(f"make test-cluster cannot make namespaces here: {tried.stderr.strip()}")


def _run(suite: str, arguments: Sequence[str]) -> int:
    folder = _folder(suite)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = {server.SUITE: suite, rows.FOLDER: str(folder), "TMPDIR": str(folder)}
    pytest = (sys.executable, "-m", "pytest", "-m", "cluster", "tests/cluster", *arguments)
    return _in_namespaces(*pytest, variables=own).returncode


def _folder(suite: str) -> Path:
    return _FOLDER / suite


def _in_namespaces(
    *command: str, variables: dict[str, str] | None = None, capture_output: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_APART, *command],
        cwd=ROOT,
        env={**os.environ, "PATH": system.search_path(), **(variables or {})},
        capture_output=capture_output,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
