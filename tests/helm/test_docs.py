"""The values in the documents are values that the chart takes."""

import re
from pathlib import Path

import pytest
import yaml

from tests.helm.conftest import Rehearse
from tests.helm.release import CHART

PAGES = [*sorted((CHART.parent / "docs").glob("kubernetes*.md")), CHART / "README.md"]
EXAMPLES = [
    pytest.param(page, block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]
# What an example about one thing leaves to the five values has to make room for what it says itself.
ROOM = {
    "storage": {"existingClaim": ""},
    "broker": {"existingSecret": ""},
    "accounts": {"existingSecret": ""},
}


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_an_example_can_be_installed(rehearse: Rehearse, page: Path, block: str) -> None:
    values = yaml.safe_load(block)
    room = {key: value for key, value in ROOM.items() if key in values}

    assert rehearse(room, values).deployment, page


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 10


def test_every_value_that_the_pages_name_exists() -> None:
    rows = re.findall(r"^\| `([\w.]+)`", (CHART / "README.md").read_text(), re.MULTILINE)
    known = set(rows) | {name.rpartition(".")[0] for name in rows}
    # What belongs to Kubernetes, such as a pod's security context, is one value with parts of its own.
    whole = tuple(f"{name}." for name in rows)

    for page in PAGES:
        named = re.findall(r"`([a-z]\w*(?:\.[a-z]\w*)+)`", page.read_text())
        ours = [name for name in named if name.split(".")[0] in {row.split(".")[0] for row in rows}]
        assert [name for name in ours if name not in known and not name.startswith(whole)] == [], page
