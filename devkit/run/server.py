"""Find the RabbitMQ server's programs, and fetch them where that is allowed.

They are this machine's own, or those of the Debian suite that `RABBITMQ` names.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from devkit.run import debian, system

SUITE = "RABBITMQ"
"""The variable that names a Debian suite."""

_PACKAGE = "rabbitmq-server"
_DEBIAN_FOLDER = "/usr/lib/rabbitmq/bin"
_USUAL_FOLDERS = (_DEBIAN_FOLDER, "/usr/local/sbin", "/opt/rabbitmq/sbin")
_HOW_TO = """\
No RabbitMQ to run with. Either install one (Debian, Ubuntu: apt-get install rabbitmq-server), or start one
(docker run -d -p 5672:5672 rabbitmq:4; podman is the same) and set AMQP=amqp://guest:guest@127.0.0.1:5672/"""


@dataclass(frozen=True)
class Installation:
    """A RabbitMQ server that can be run.

    Attributes:
        scripts: The folder of `rabbitmq-server` and `rabbitmqctl`.
        inside: The words before a command that make it run where the scripts are.
    """

    scripts: Path
    inside: tuple[str, ...] = ()

    def command(self, script: str, *words: str) -> list[str]:
        """Return the command that runs a script."""
        return [*self.inside, str(self.scripts / script), *words]


def find() -> Installation | None:
    """Find a server, without fetching one.

    Debian's commands in /usr/sbin do not count: they switch to the user of the system's broker.
    """
    if suite := os.environ.get(SUITE):
        tree = debian.tree_of(suite)
        return _unpacked(tree) if tree else None
    on_path = shutil.which(_PACKAGE, path=system.search_path())
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += map(Path, _USUAL_FOLDERS)
    return next((Installation(folder) for folder in folders if _has_scripts(folder)), None)


def ensure() -> Installation:
    """Find a server, or fetch it when run as root: install it with apt-get, or unpack it.

    Raises:
        SystemExit: There is none, and it cannot be fetched; the text says what to do.
    """
    if suite := os.environ.get(SUITE):
        return _unpacked(debian.unpack(suite))
    found = find()
    if found is None and _may_install():
        _install()
        found = find()
    if found is None:
        raise SystemExit(_HOW_TO)
    return found


def _unpacked(tree: Path) -> Installation:
    return Installation(Path(_DEBIAN_FOLDER), debian.inside(tree))


def _has_scripts(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("rabbitmq-env", "rabbitmq-server", "rabbitmqctl"))


def _may_install() -> bool:
    # Debian's wrapper is here, but no scripts that we know: some server is installed. Leave it alone.
    installed = shutil.which(_PACKAGE, path=system.search_path())
    return (
        os.geteuid() == 0 and not installed and shutil.which("apt-get", path=system.search_path()) is not None
    )


def _install() -> None:
    try:
        system.install_package(_PACKAGE)
    except SystemExit as failure:
        raise SystemExit(f"{failure}\n{_HOW_TO}") from None
