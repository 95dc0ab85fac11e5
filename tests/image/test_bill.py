"""The bill of materials of the image names what is in it."""

import json
import shlex
import subprocess
from collections import defaultdict

import pytest

from devkit import ROOT
from devkit.run.image import IMAGE, Podman

DISTRIBUTIONS = "import importlib.metadata as m; print(*{d.name for d in m.distributions()}, sep='\\n')"


def listed(podman: Podman, program: str, *words: str) -> set[str]:
    """The lines that a program in the image prints."""
    command = podman.run("--rm", "--network=none", f"--entrypoint={program}", IMAGE, *words)
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


@pytest.mark.image
@pytest.mark.timeout(600)
def test_the_bill_of_the_image_names_all_that_is_in_it(podman: Podman) -> None:
    """Debian's packages, and Python's in the worker's environment."""
    command = ["make", "sbom-image", f"ENGINE={shlex.join(podman.command())}", f"TAG={IMAGE}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    named = defaultdict(set)
    for part in json.loads((ROOT / "dist/sbom/image.cdx.json").read_text())["components"]:
        named[part.get("purl", "").partition("/")[0]].add(part["name"].lower().replace("_", "-"))

    assert named["pkg:deb"] == listed(podman, "dpkg-query", "--show", "--showformat=${Package}\\n")
    installed = listed(podman, "/opt/ccfs-worker/bin/python", "-c", DISTRIBUTIONS)
    assert {name.lower().replace("_", "-") for name in installed} <= named["pkg:pypi"]
