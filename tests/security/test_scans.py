"""The Dockerfile and the chart's objects are clean before three scanners; each exception says why."""

import subprocess
from pathlib import Path

import helm_python as helm
import pytest
import yaml

from tests.helm.release import CHART, FIVE, MATRIX, NAME, merged, render

pytestmark = [pytest.mark.security, pytest.mark.timeout(300)]

ROOT = CHART.parent
PROGRAMS = ROOT / ".run" / "security-venv" / "bin"
HERE = Path(__file__).parent
LEFT_OUT = {"everything", "openshift", "broker-login"}
"""The first adds containers that are the user's own to harden. With the second the cluster gives the user
id. The third reads the broker's host and port, which are no secrets, from its Secret (checkov's CKV_K8S_35);
the login in it is mounted as files.
"""


def scan(program: str, *words: str) -> str:
    """Runs a scanner; gives what it found, or nothing."""
    command = [str(PROGRAMS / program), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=ROOT
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the objects of the whole matrix."""
    folder = tmp_path_factory.mktemp("manifests")
    with helm.Chart.load(CHART) as chart:
        for name in MATRIX.keys() - LEFT_OUT:
            documents = render(chart, merged(FIVE, MATRIX[name]), NAME).documents
            (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(documents))
    return folder


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    assert scan("hadolint", f"--config={HERE / 'hadolint.yaml'}", "Dockerfile") == ""


TRIVY = ("config", "--skip-check-update", "--skip-version-check", "--quiet", "--exit-code=1")


def test_trivy_finds_nothing_in_the_dockerfile() -> None:
    assert scan("trivy", *TRIVY, f"--ignorefile={HERE / 'trivyignore'}", "Dockerfile") == ""


def test_trivy_finds_nothing_in_the_objects(manifests: Path) -> None:
    assert scan("trivy", *TRIVY, f"--ignorefile={HERE / 'trivyignore'}", str(manifests)) == ""


def test_checkov_finds_nothing_in_the_dockerfile() -> None:
    config = f"--config-file={HERE / 'checkov.yaml'}"

    assert scan("checkov", config, "--framework=dockerfile", "--file=Dockerfile") == ""


def test_checkov_finds_nothing_in_the_objects(manifests: Path) -> None:
    config = f"--config-file={HERE / 'checkov.yaml'}"

    assert scan("checkov", config, "--framework=kubernetes", f"--directory={manifests}") == ""
