"""What users install has all that it needs by itself, and nothing that only a checkout needs."""

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from email.message import Message
from email.parser import Parser
from hashlib import sha256
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from devkit import ROOT

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a distribution of a kind: wheel or sdist."""

    def run(kind: str, variables: Mapping[str, str] | None = None, root: Path = ROOT) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
            cwd=root,
            check=True,
            capture_output=True,
            env=os.environ | (variables or {}),
        )
        (made,) = folder.iterdir()
        return made

    return run


@pytest.fixture(scope="module")
def wheel(build: Build) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_code_types_and_documents(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())

    documents = {"schemas/asyncapi.yaml", "schemas/json/DownloadJob.schema.json"}
    assert documents | {"worker/py.typed", "schemas/py.typed", "worker/cli/run.py"} <= names
    assert "schemas/__main__.py" not in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"worker", "schemas"}


def test_the_wheel_says_whose_it_is_and_where_it_lives(wheel: zipfile.ZipFile, metadata: Message) -> None:
    licences = {name.rpartition("/")[2] for name in wheel.namelist() if "/licenses/" in name}

    assert licences == {"LICENSE", "NOTICE"} == set(metadata.get_all("License-File", ()))
    assert metadata["License-Expression"] == "Apache-2.0"
    labels = {url.partition(",")[0] for url in metadata.get_all("Project-URL", ())}
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= labels


def test_the_readme_of_the_wheel_stands_alone(metadata: Message) -> None:
    text = str(metadata.get_payload())
    tokens = [inner for token in MarkdownIt().parse(text) for inner in token.children or ()]
    targets = [str(token.attrs["href"]) for token in tokens if token.type == "link_open"]

    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert f"/blob/v{metadata['Version']}/docs/reliability.md" in text
    assert "mermaid" not in text


def test_a_worker_needs_no_cryptography(metadata: Message) -> None:
    required = [one for one in metadata.get_all("Requires-Dist", ()) if one.startswith("cryptography")]

    assert required
    assert all(one.endswith("extra == 'simulator'") for one in required)


def test_the_sdist_holds_what_a_wheel_is_built_from(build: Build, tmp_path: Path) -> None:
    with tarfile.open(build("sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    first = {path.name for path in root.iterdir()} - {"PKG-INFO", ".gitignore"}

    assert first == {
        "worker", "schemas", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "pyproject.toml",
    }  # fmt: skip
    assert digest(build("wheel", root=root)) == digest(build("wheel"))


def test_two_builds_at_different_times_are_one_wheel(build: Build, tmp_path: Path) -> None:
    """For one SOURCE_DATE_EPOCH, whatever the files' times are (reproducible-builds.org)."""
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    with tarfile.open(build("sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    first = digest(build("wheel", epoch, root))
    for path in root.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))

    assert digest(build("wheel", epoch, root)) == first


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
