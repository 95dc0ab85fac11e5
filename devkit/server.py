"""Finds the RabbitMQ server's programs, and installs them where that is allowed."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
_DENY_STARTS = """\
#!/bin/sh
# Of ccfs-worker's devkit, while it installs a package; left behind, it can be deleted.
exit 101
"""
_PACKAGE = "rabbitmq-server"
_USUAL_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin")
_HOW_TO = """\
No RabbitMQ to run with. Either install one (Debian, Ubuntu: apt-get install rabbitmq-server), or start one
(docker run -d -p 5672:5672 rabbitmq:4; podman is the same) and set AMQP=amqp://guest:guest@127.0.0.1:5672/"""


def search_path() -> str:
    """Gives `PATH` with the system folders that a user's often lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find() -> Path | None:
    """Finds the folder of RabbitMQ's own scripts.

    Debian's commands in /usr/sbin don't count: they switch to the user of the system's broker.

    Returns:
        The folder with `rabbitmq-server` and `rabbitmqctl`, or None.
    """
    on_path = shutil.which(_PACKAGE, path=search_path())
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += map(Path, _USUAL_FOLDERS)
    return next((folder for folder in folders if _has_scripts(folder)), None)


def ensure() -> Path:
    """Finds the server, or installs it with apt-get when run as root.

    Returns:
        The folder with `rabbitmq-server` and `rabbitmqctl`.

    Raises:
        SystemExit: there is none and it cannot be installed; the text says what to do.
    """
    folder = find()
    if folder is None and _may_install():
        _install()
        folder = find()
    if folder is None:
        raise SystemExit(_HOW_TO)
    return folder


def _has_scripts(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("rabbitmq-env", "rabbitmq-server", "rabbitmqctl"))


def _may_install() -> bool:
    # Debian's wrapper without scripts we know means a server is installed all the same: hands off.
    installed = shutil.which(_PACKAGE, path=search_path())
    return os.geteuid() == 0 and not installed and shutil.which("apt-get", path=search_path()) is not None


def _install() -> None:
    try:
        install_package(_PACKAGE)
    except SystemExit as failure:
        raise SystemExit(f"{failure}\n{_HOW_TO}") from None


def install_package(package: str) -> None:
    """Installs a Debian package and keeps it from starting a service of its own.

    Raises:
        SystemExit: apt-get could not; the text holds what it printed.
    """
    print(f"Installing {package} with apt-get (its own service will not be started) ...", file=sys.stderr)
    with no_service_starts(POLICY):
        attempt = _apt_get("install", package)
        if attempt.returncode:
            _apt_get("update")
            attempt = _apt_get("install", package)
    if attempt.returncode:
        raise SystemExit(f"{attempt.stdout.strip()}\napt-get could not install {package}.")


@contextmanager
def no_service_starts(policy: Path) -> Iterator[None]:
    """Keeps packages installed meanwhile from starting their services.

    Args:
        policy: the script that invoke-rc.d asks; one that is there already is put back afterwards.

    Yields:
        Nothing.
    """
    with _only_one(policy.parent):
        kept = policy.with_name(policy.name + ".ccfs-worker")
        # Ours may be there already, from a run that was killed.
        if policy.exists() and policy.read_text() != _DENY_STARTS:
            policy.rename(kept)
        policy.write_text(_DENY_STARTS)
        policy.chmod(0o755)
        try:
            yield
        finally:
            policy.unlink()
            if kept.exists():
                kept.rename(policy)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _apt_get(*words: str) -> subprocess.CompletedProcess[str]:
    options = ("--yes", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
    return subprocess.run(
        ["apt-get", *options, *words],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": search_path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
