"""Run the adapters' tests on every Python, and with the oldest and newest libraries that are admitted.

`python -m devkit.run.releases` prints a table; `PYTHONS="3.12 3.13"` takes other versions, and all arguments
are pytest's.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from devkit import ROOT
from devkit.run.reports import Counts, read_report, table

PYTHONS = ("3.11", "3.12", "3.13")
LIBRARIES = ("aio-pika", "aiormq", "aiohttp", "httptools", "uvloop")
"""What the adapters lie on, below its public interface in places."""

_TESTS = ("tests/broker", "tests/ccfs", "tests/storage", "tests/observe", "tests/simulator", "tests/shell")
_FOLDER = ROOT / ".run" / "releases"


class Releases(StrEnum):
    """Which releases of the libraries an environment has."""

    LOWEST = "lowest"
    LOCKED = "locked"
    NEWEST = "newest"
    WITHOUT_UVLOOP = "locked, no uvloop"


@dataclass(frozen=True)
class Environment:
    """An environment to run the tests in."""

    python: str
    releases: Releases

    @property
    def folder(self) -> Path:
        """The folder that it is built in."""
        return _FOLDER / f"{self.python}-{self.releases.name.lower()}"


def main() -> None:
    """Build each environment, run the tests in it, and exit with 1 unless all is well."""
    pythons = os.environ.get("PYTHONS", "").split() or PYTHONS
    interpreters = {python: find_python(python) for python in pythons}
    rows = []
    for environment in environments(pythons):
        print(f"Python {environment.python}, {environment.releases}:", flush=True)
        build(environment, interpreters[environment.python])
        rows.append(((environment.python, *versions(environment)), _run(environment, sys.argv[1:])))
    print(table(("python", *LIBRARIES), rows))
    sys.exit(not all(counts.good for _, counts in rows))


def environments(pythons: Sequence[str]) -> Iterator[Environment]:
    """Every Python with the locked releases; the first and last also with the oldest and newest."""
    yield Environment(pythons[0], Releases.LOWEST)
    for python in pythons:
        yield Environment(python, Releases.LOCKED)
    yield Environment(pythons[-1], Releases.WITHOUT_UVLOOP)
    yield Environment(pythons[-1], Releases.NEWEST)


def find_python(version: str) -> str:
    """Return an interpreter of this version, on PATH or of pyenv.

    Raises:
        SystemExit: There is none; the text says what to do.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    places = [*([on_path] if on_path else []), *map(str, pyenv.glob(f"versions/{version}.*/bin/python"))]
    for place in places:
        # A shim of pyenv's is on PATH for each version, and fails for all but the chosen ones.
        if not subprocess.run([place, "-V"], capture_output=True, check=False).returncode:
            return place
    sys.exit(f"Python {version} is not there: install it, or leave it out (PYTHONS=...).")


def build(environment: Environment, interpreter: str) -> None:
    """Make a virtual environment: install the locked releases, then the ones to test."""
    folder = environment.folder
    _uv("venv", "--clear", "--python", interpreter, str(folder))
    install = ("pip", "install", "--python", str(folder / "bin" / "python"))
    _uv(*install, "--require-hashes", "-r", "requirements-dev.lock")
    _uv(*install, "--no-deps", "--no-build-isolation", "-e", ".")
    match environment.releases:
        case Releases.LOWEST:
            _uv(*install, "--upgrade", "--resolution", "lowest-direct", *admitted())
        case Releases.NEWEST:
            _uv(*install, "--upgrade", *admitted())
        case Releases.WITHOUT_UVLOOP:
            _uv("pip", "uninstall", "--python", str(folder / "bin" / "python"), "uvloop")


def admitted() -> list[str]:
    """The requirements of pyproject.toml for those of the libraries that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [line for line in project["dependencies"] if re.split(r"[^a-z-]", line)[0] in LIBRARIES]


def versions(environment: Environment) -> list[str]:
    """What is installed of each library; `-` for none."""
    command = [_uv_program(), "pip", "freeze", "--python", str(environment.folder / "bin" / "python")]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    installed = dict(line.split("==") for line in frozen.splitlines() if "==" in line)
    return [installed.get(library, "-") for library in LIBRARIES]


def _run(environment: Environment, arguments: Sequence[str]) -> Counts:
    report = environment.folder / "report.xml"
    subprocess.run(
        [
            environment.folder / "bin" / "python",
            "-m",
            "pytest",
            f"--junitxml={report}",
            *(arguments or _TESTS),
        ],
        cwd=ROOT,
        check=False,
    )
    return read_report(report.read_bytes() if report.exists() else b"<testsuite/>")


def _uv(*arguments: str) -> None:
    subprocess.run([_uv_program(), *arguments, "--quiet"], cwd=ROOT, check=True)


def _uv_program() -> str:
    return str(Path(sys.executable).with_name("uv"))


if __name__ == "__main__":
    main()
