"""Find and install programs and packages of this machine."""

import fcntl
import os
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


def search_path() -> str:
    """Return `PATH` with the system folders that the `PATH` of a user often lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def install_package(package: str) -> None:
    """Install a Debian package and keep it from starting a service of its own.

    Raises:
        SystemExit: apt-get failed; the text holds what it printed.
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
    """Keep packages that are installed meanwhile from starting their services.

    Args:
        policy: The script that invoke-rc.d asks; one that is there already is put back afterwards.

    Yields:
        Nothing.
    """
    with only_one(policy.parent):
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
def only_one(folder: Path) -> Iterator[None]:
    """Admit one process at a time. The lock is on the folder, and changes nothing in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def run(*words: str) -> str:
    """Run a command to its end, without input, and return what it printed.

    Raises:
        RuntimeError: It failed; the text says how.
    """
    done = subprocess.run(
        words,
        env={**os.environ, "PATH": search_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


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
