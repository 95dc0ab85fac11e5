"""Check that the parts of a release agree: `python -m devkit.release`.

Version, changelog, chart, locks and bills of materials each name versions: in a release the same ones.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devkit import ROOT

BILLS = {
    "requirements.lock": "dist/sbom/wheel.cdx.json",
    "requirements-build.lock": "dist/sbom/build.cdx.json",
}
"""The bill of materials of each lock; `make sbom` writes them."""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", re.MULTILINE)


def problems(root: Path) -> list[str]:
    """Return one line for each thing in a checkout that does not agree; it says what to do."""
    document = tomllib.loads((root / "pyproject.toml").read_text())
    version = str(document["project"]["version"])
    return [
        *chart_problems(root, version),
        *changelog_problems(root, version),
        *lock_problems(root, document),
        *bill_problems(root, version),
    ]


def chart_problems(root: Path, version: str) -> Iterator[str]:
    """Compare the chart's versions, and look for the values that later charts are tested to accept."""
    chart = yaml.safe_load((root / "helm/Chart.yaml").read_text())
    for name in ("version", "appVersion"):
        if chart[name] != version:
            yield f"helm/Chart.yaml: {name} is {chart[name]}: set {version}, as in pyproject.toml"
    values = f"tests/helm/releases/{version}.yaml"
    if not (root / values).is_file():
        yield f"{values} is missing: keep this release's values there"


def changelog_problems(root: Path, version: str) -> Iterator[str]:
    """Look for the version's section, first after an empty "Unreleased"."""
    text = (root / "CHANGELOG.md").read_text()
    unreleased, *released = re.split(r"^## (?=\[?[0-9])", text, flags=re.MULTILINE)
    if not released or not re.match(rf"\[?{re.escape(version)}\b", released[0]):
        yield f"CHANGELOG.md: the newest section is not {version}: move the entries under Unreleased to it"
    if re.search(r"^- ", unreleased, re.MULTILINE):
        yield f"CHANGELOG.md: entries are left under Unreleased: move them to {version}"


def lock_problems(root: Path, document: dict[str, Any]) -> Iterator[str]:
    """Compare each lock with the requirements that it is made from, and the locks with each other."""
    extras = document["project"]["optional-dependencies"]
    shipped = [*document["project"]["dependencies"], *extras["otel"], *extras["simulator"]]
    built = document["dependency-groups"]["build"]
    for lock, wanted in {"requirements.lock": shipped, "requirements-build.lock": built}.items():
        locked = pins(root / lock)
        for requirement in map(Requirement, wanted):
            pinned = locked.get(canonicalize_name(requirement.name))
            if pinned is None or not requirement.specifier.contains(pinned, prereleases=True):
                yield f"{lock}: has {requirement.name} {pinned}, not {requirement.specifier}: run `make lock`"
        tested = pins(root / "requirements-dev.lock")
        for name, pinned in locked.items():
            if tested.get(name) != pinned:
                yield f"{lock}: ships {name} {pinned}, but {tested.get(name)} was tested: run `make lock`"


def bill_problems(root: Path, version: str) -> Iterator[str]:
    """Compare each bill of materials (CycloneDX) with its lock."""
    for lock, bill in BILLS.items():
        if not (root / bill).is_file():
            yield f"{bill} is missing: run `make sbom`"
            continue
        document = json.loads((root / bill).read_text())
        named = {canonicalize_name(part["name"]): part["version"] for part in document["components"]}
        if named != pins(root / lock):
            yield f"{bill}: does not name what is in {lock}: run `make sbom`"
        if (about := document["metadata"]["component"].get("version")) != version:
            yield f"{bill}: is of version {about}, not {version}: run `make sbom`"


def pins(lock: Path) -> dict[str, str]:
    """Read the versions in a lock, by canonical name."""
    return {canonicalize_name(name): version for name, version in _PIN.findall(lock.read_text())}


def main() -> int:
    """Print what does not agree. Return the exit code."""
    found = problems(ROOT)
    print(*found or ["version, changelog, chart, locks and bills of materials agree"], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
