"""What keeps a release from being one is said, one line each."""

import json
import re
import shutil
from pathlib import Path

import pytest

from devkit import ROOT
from devkit.release import BILLS, pins, problems

FILES = ("pyproject.toml", "CHANGELOG.md", "helm/Chart.yaml", "requirements-dev.lock", *BILLS)
VERSION = "7.8.9"


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A checkout that is ready to be released."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    change(tmp_path / "pyproject.toml", r'^version = ".*"', f'version = "{VERSION}"')
    change(tmp_path / "helm/Chart.yaml", r"^(version|appVersion): .*", rf'\1: "{VERSION}"')
    change(tmp_path / "CHANGELOG.md", r"^## Unreleased", f"## Unreleased\n\n## {VERSION} - 2030-01-02")
    values = tmp_path / f"tests/helm/releases/{VERSION}.yaml"
    values.parent.mkdir(parents=True)
    values.touch()
    for lock, bill in BILLS.items():
        parts = [{"name": name, "version": version} for name, version in pins(tmp_path / lock).items()]
        (tmp_path / bill).parent.mkdir(parents=True, exist_ok=True)
        about = {"component": {"version": VERSION}}
        (tmp_path / bill).write_text(json.dumps({"metadata": about, "components": parts}))
    return tmp_path


def change(file: Path, pattern: str, replacement: str) -> None:
    changed, count = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE)
    assert count, pattern
    file.write_text(changed)


def test_a_checkout_that_agrees_is_ready(ready: Path) -> None:
    assert problems(ready) == []


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "complaint"),
    [
        (
            "helm/Chart.yaml",
            r"^version: .*",
            "version: 1.0.0",
            "helm/Chart.yaml: version is 1.0.0: set 7.8.9",
        ),
        ("helm/Chart.yaml", r"^appVersion: .*", "appVersion: 1.0.0", "helm/Chart.yaml: appVersion is 1.0.0"),
        ("CHANGELOG.md", r"^## 7.8.9", "## 7.8.8", "CHANGELOG.md: the newest section is not 7.8.9"),
        ("CHANGELOG.md", r"^## Unreleased", "## Unreleased\n\n- More.", "CHANGELOG.md: entries are left"),
        ("requirements.lock", r"^aiohttp==\S+", "aiohttp==1.0", "requirements.lock: has aiohttp 1.0, not "),
        ("requirements.lock", r"^cryptography==\S+", "zzz==1", "requirements.lock: has cryptography None"),
        ("requirements-dev.lock", r"^rich==\S+", "rich==1.0", "requirements.lock: ships rich "),
        ("dist/sbom/wheel.cdx.json", r'"aiohttp"', '"aiohttq"', "wheel.cdx.json: does not name what"),
        ("dist/sbom/build.cdx.json", r"7\.8\.9", "7.8.8", "build.cdx.json: is of version 7.8.8, not 7.8.9"),
    ],
)
def test_what_does_not_agree_is_said(
    ready: Path, file: str, pattern: str, replacement: str, complaint: str
) -> None:
    change(ready / file, pattern, replacement)

    assert [line for line in problems(ready) if complaint in line]


@pytest.mark.parametrize("file", [*BILLS.values(), f"tests/helm/releases/{VERSION}.yaml"])
def test_what_is_missing_is_said(ready: Path, file: str) -> None:
    (ready / file).unlink()

    assert [line for line in problems(ready) if line.startswith(f"{file} is missing")]
