"""Run RabbitMQ of another Debian suite: unpacked into a folder, and run from there.

Nothing of it is installed, and no script of a package runs. A command that is to run there gets a mount
namespace of its own (Linux mount_namespaces(7)), in which the folder's `/usr` covers the machine's: it finds
the suite's programs and libraries, and every other file where it always is. The namespace ends with its last
process, however that ends, and there is nothing to undo.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from devkit import ROOT
from devkit.run import programs, system

TREES = ROOT / ".run" / "rabbitmq"
_PROGRAMS = ("rabbitmq-server", "?essential")
# Bookworm's packages still name /bin and /lib, and only /usr is covered.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"
_SUITE = re.compile(r"[a-z][a-z-]*")
_COVER = 'mount --bind "$1/usr" /usr && shift && exec "$@"'
_VERSIONS = "usr/lib/rabbitmq/lib/rabbitmq_server-*"


def tree_of(suite: str) -> Path | None:
    """Return the folder that a suite was unpacked into, or None if it was not."""
    tree = TREES / _checked(suite)
    return tree if tree.exists() else None


def unpack(suite: str) -> Path:
    """Return the folder of a suite, unpacked if it is not yet: that takes half a minute and 0.25 GB.

    Args:
        suite: Its name, such as `trixie`.

    Raises:
        SystemExit: It cannot be fetched; the text says why and what to do.
    """
    if tree := tree_of(suite):
        return tree
    if os.geteuid() != 0 or not shutil.which("apt-get", path=system.search_path()):
        raise SystemExit(f"RabbitMQ of Debian {suite} can only be fetched and run as root on Debian.")
    TREES.mkdir(parents=True, exist_ok=True)
    with system.only_one(TREES):
        return tree_of(suite) or _unpack(suite)


def inside(tree: Path) -> tuple[str, ...]:
    """Return the words before a command that make it run with the programs of a tree."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", _COVER, "sh", str(tree))


def version(tree: Path) -> str:
    """Return the version of RabbitMQ in a tree."""
    (folder,) = tree.glob(_VERSIONS)
    return folder.name.partition("-")[2]


def _checked(suite: str) -> str:
    if not _SUITE.fullmatch(suite):
        raise SystemExit(f"RABBITMQ={suite}: must be the name of a Debian suite, such as trixie.")
    return suite


def _unpack(suite: str) -> Path:
    tool = programs.find("mmdebstrap")
    site = mirror()
    print(f"Unpacking RabbitMQ of Debian {suite} ...", file=sys.stderr)
    unfinished = TREES / f".{suite}"
    shutil.rmtree(unfinished, ignore_errors=True)
    done = _run(
        tool,
        "--variant=extract",
        f"--setup-hook={_MERGED_USR}",
        f"--include={','.join(_PROGRAMS)}",
        # The signature counts: a mirror may lag behind, and Debian's moving suites expire in a week.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        suite,
        str(unfinished),
        site,
    )
    if done.returncode:
        raise SystemExit(f"{done.stderr.strip()}\nRabbitMQ of Debian {suite} could not be unpacked.")
    return unfinished.rename(TREES / suite)


def mirror() -> str:
    """Return the address of the mirror that this machine takes its packages from.

    Raises:
        SystemExit: It names none.
    """
    sites = _sites()
    if not sites:
        # Where packages come from is only known after a first update.
        _run("apt-get", "update")
        sites = _sites()
    if not sites:
        raise SystemExit("This machine's package sources name no mirror of Debian.")
    return sites[0]


def _sites() -> list[str]:
    wanted = ("Origin: Debian", "Label: Debian")
    return _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).stdout.split()


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env={**os.environ, "PATH": system.search_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
