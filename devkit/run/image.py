"""Build the container image without a registry: `python -m devkit.run.image`.

`make image` builds the image that is shipped, from the base that the Dockerfile names. This one is for tests,
as root on a Debian machine: its base is made of Debian's packages, as the real one is, and it is kept in a
storage of its own. It trusts the authorities of this machine, so do not use it elsewhere.
"""

import resource
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from devkit import ROOT
from devkit.run import system

IMAGE = "localhost/ccfs-worker:test"

_BASE = "localhost/debian-bootstrapped:trixie"
_SUITE = "trixie"
_PROGRAMS = {"podman": "podman", "runc": "runc", "debootstrap": "debootstrap", "ip": "iproute2"}
_SLIMMED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_AUTHORITIES = Path("etc/ssl/certs/ca-certificates.crt")
_PIP = f"[global]\ncert = /{_AUTHORITIES}\n"
_MEGABYTE = 1_000_000
_LIMITS = {"nofile": (resource.RLIMIT_NOFILE, 65_536), "nproc": (resource.RLIMIT_NPROC, 4096)}
"""Upper bounds of a container. Podman's own are refused where this process has less."""


class Podman:
    """A podman with a storage of its own.

    Args:
        folder: Where images and containers are kept.
    """

    def __init__(self, folder: Path = ROOT / ".run" / "containers") -> None:
        storage = (f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}")
        self._options = (*storage, "--runtime=runc")

    def command(self, *words: str) -> list[str]:
        """Return the words of a podman command."""
        return ["podman", *self._options, *words]

    def __call__(self, *words: str) -> str:
        """Run a podman command.

        Returns:
            What it printed.

        Raises:
            RuntimeError: It failed; the text holds what it said.
        """
        done = subprocess.run(
            self.command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"podman {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def run(self, *words: str) -> list[str]:
        """Return the words of `podman run` with limits that this machine allows."""
        limits = {name: min(most, resource.getrlimit(kind)[1]) for name, (kind, most) in _LIMITS.items()}
        return self.command("run", *(f"--ulimit={name}={n}:{n}" for name, n in limits.items()), *words)

    def has(self, image: str) -> bool:
        """Return whether an image is there."""
        return subprocess.run(self.command("image", "exists", image), check=False).returncode == 0

    def compressed_megabytes(self, image: str) -> float:
        """Return the size of an image in a registry, in MB."""
        with tempfile.TemporaryDirectory() as folder:
            self("push", "--quiet", image, f"oci:{folder}")
            return sum(file.stat().st_size for file in Path(folder).glob("blobs/*/*")) / _MEGABYTE


def build(podman: Podman, image: str = IMAGE) -> None:
    """Build the image, with the time of the last commit as its own and as that of all files in it.

    Args:
        podman: Builds it.
        image: Its name.

    Raises:
        SystemExit: A program is missing and cannot be installed.
        RuntimeError: A step failed; the text holds what it said.
    """
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=system.search_path()) is None:
            system.install_package(package)
    if not podman.has(_BASE):
        _bootstrap(podman)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    # Layers would be copied for each step, and host networking spares a bridge.
    options = ("--layers=false", "--isolation=chroot", "--network=host", "--pull=never", f"--tag={image}")
    epoch = system.run("git", "-C", str(ROOT), "log", "-1", "--format=%ct").strip()
    arguments = {"BASE": _BASE, "VERSION": version, "SOURCE_DATE_EPOCH": epoch}
    words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    podman("build", *options, f"--timestamp={epoch}", *words, str(ROOT))


def _bootstrap(podman: Podman) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        system.run("debootstrap", "--variant=minbase", "--include=ca-certificates", _SUITE, name, _mirror())
        for slimmed in _SLIMMED:
            shutil.rmtree(folder / slimmed)
            (folder / slimmed).mkdir()
        shutil.copy(Path("/") / _AUTHORITIES, folder / _AUTHORITIES)
        (folder / "etc" / "pip.conf").write_text(_PIP)
        archive = folder.with_suffix(".tar")
        try:
            system.run("tar", "--create", "--file", str(archive), "--directory", name, ".")
            podman("import", "--quiet", str(archive), _BASE)
        finally:
            archive.unlink()


def _mirror() -> str:
    """The mirror that this machine's own packages come from."""
    printed = system.run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    return printed.split()[0]


if __name__ == "__main__":
    build(Podman())
