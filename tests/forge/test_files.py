"""The files for the forge and for those who adopt the project agree with the rest of it."""

import hashlib
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").iterdir()}
CI = WORKFLOWS["ci.yaml"]["jobs"]
APACHE = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""The SHA-256 of the Apache License 2.0 as its authors publish it."""


def tracked() -> list[Path]:
    """The files of the repository."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in names.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def steps() -> list[dict[str, Any]]:
    """The steps of all workflows."""
    return [
        step for workflow in WORKFLOWS.values() for job in workflow["jobs"].values() for step in job["steps"]
    ]


def test_the_licence_is_apache_2_word_for_word() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE
    assert PROJECT["license"] == "Apache-2.0"


def test_ci_runs_on_each_python_that_the_package_names() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = {
        f"3.{entry.removeprefix(prefix)}" for entry in PROJECT["classifiers"] if entry.startswith(prefix)
    }

    assert set(CI["check"]["strategy"]["matrix"]["python"]) == named


def test_ci_runs_what_runs_anywhere() -> None:
    assert CI["check"]["steps"][-1] == {"run": "bash .ci/run"}


def test_by_night_ci_runs_all_targets_that_take_longer() -> None:
    """Those that the page for contributors names, but for the long benchmark."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    section = page.partition("## What takes longer")[2].partition("\n## ")[0]
    named = set(re.findall(r"`make\s+([a-z-]+)`", section))

    assert set(CI["nightly"]["strategy"]["matrix"]["target"]) == named - {"bench"}
    assert named <= TARGETS


def test_each_action_is_pinned_by_its_commit() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]

    assert used
    assert [name for name in used if not re.search(r"@[0-9a-f]{40}$", name)] == []


def test_no_expression_reaches_a_shell() -> None:
    """A branch's name in a script is a script of its author's."""
    assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []


def test_the_owned_paths_exist() -> None:
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0] for line in lines if line.startswith("/")]

    assert paths
    assert [path for path in paths if not (ROOT / path.strip("/")).exists()] == []


def test_the_hooks_before_a_commit_are_targets() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]

    assert {hook["entry"].removeprefix("make ") for hook in repository["hooks"]} <= TARGETS


def test_addresses_of_the_project_are_those_of_its_metadata() -> None:
    """So that a home for the project is one change, and no address is forgotten."""
    roots = {PROJECT["urls"]["Homepage"], f"{PROJECT['urls']['Source']}/", PROJECT["urls"]["Source"]}
    address = re.compile(r"https://[\w.]*(?:ccfs-worker\.example|github\.example)\.com[\w./$-]*")
    named = {found for path in tracked() if path.suffix != ".svg" for found in address.findall(_text(path))}

    assert [one for one in sorted(named) if not any(one.startswith(root) for root in roots)] == []


def test_text_files_are_as_editorconfig_says() -> None:
    """Data that others made is left as it came."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".sh", ".tpl"}
        if path.parent.name != "data"
        if re.search(r"[ \t]$|\r", text := _text(path), re.MULTILINE) or (text and not text.endswith("\n"))
    ]

    assert wrong == []


@pytest.mark.parametrize("lock", [path for path in tracked() if path.name.endswith(".lock")], ids=str)
def test_a_lock_has_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()

    assert "https://" not in text
    assert "--index-url" not in text
    assert re.search(r"^\S+==\S+ ", text, re.MULTILINE)
    assert "--hash=sha256:" in text


def test_the_lock_of_npm_has_hashes_and_no_addresses() -> None:
    """npm also records where a package comes from, and where to thank for it."""
    text = (ROOT / "tests/forge/package-lock.json").read_text()
    packages = {path: package for path, package in json.loads(text)["packages"].items() if path}

    assert "://" not in text
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
