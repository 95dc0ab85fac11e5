"""Two builds of a commit are one image, and its packages are those of its base's day."""

import re
import subprocess
from pathlib import Path

import pytest

from devkit import ROOT
from devkit.run.image import IMAGE, Podman, build

AGAIN = f"{IMAGE}-again"
SOURCES = """\
Types: deb
# http://archive.example/debian/20260918T000000Z
URIs: http://mirror.example/debian
Suites: trixie trixie-updates

Types: deb
# http://archive.example/debian-security/20260918T000000Z
URIs: http://mirror.example/debian-security
Suites: trixie-security
"""


@pytest.mark.image
@pytest.mark.timeout(900)
def test_two_builds_of_a_commit_are_one_image(podman: Podman) -> None:
    """The image is known by the digest of its configuration, which names the digests of its layers."""
    build(podman, AGAIN)
    try:
        first, again = (podman("image", "inspect", "--format={{.Id}}", image) for image in (IMAGE, AGAIN))
    finally:
        podman("rmi", AGAIN)

    assert first == again


def test_packages_come_from_the_archive_of_the_bases_day(tmp_path: Path) -> None:
    """The Dockerfile's own expression, over a file as Debian's images have it."""
    found = re.search(r"-exec (sed -i '[^']+') \{\}", (ROOT / "Dockerfile").read_text())
    assert found
    file = tmp_path / "debian.sources"
    file.write_text(SOURCES)

    subprocess.run(f"{found[1]} {file}", shell=True, check=True)  # noqa: S602 - our own Dockerfile's words

    uris = re.findall(r"^URIs: (\S+)$", file.read_text(), re.MULTILINE)
    assert uris == re.findall(r"^# (\S+)$", SOURCES, re.MULTILINE)
    assert "mirror" not in file.read_text()
