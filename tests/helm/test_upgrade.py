"""An upgrade from any earlier release goes through."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.conftest import Rehearse
from tests.helm.release import Release

RELEASES = sorted((Path(__file__).parent / "releases").glob("*.yaml"))


def identities(release: Release) -> dict[str, Any]:
    """What must not change: Kubernetes refuses new selectors, and new names are other objects."""
    return {
        f"{document['kind']}/{document['metadata']['name']}": document["spec"]["selector"]["matchLabels"]
        if document["kind"] == "Deployment"
        else None
        for document in release.documents
    }


@pytest.mark.parametrize("file", RELEASES, ids=lambda file: file.stem)
def test_values_and_objects_of_an_earlier_release_still_hold(rehearse: Rehearse, file: Path) -> None:
    for case in yaml.safe_load_all(file.read_text()):
        assert case["objects"].items() <= identities(rehearse(case["values"])).items()
