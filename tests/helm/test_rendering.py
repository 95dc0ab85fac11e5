"""The chart makes valid objects of every kind of values, on every supported Kubernetes."""

from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from pydantic import BaseModel

from tests.helm import custom
from tests.helm.conftest import VERSIONS, Rehearse
from tests.helm.release import CHART, FIVE, MATRIX, Document, merged

CUSTOM: dict[str, type[BaseModel]] = {
    "PodMonitor": PodMonitor,
    "PrometheusRule": PrometheusRule,
    **custom.FLUX,
}
WARNING = 2


@pytest.mark.parametrize("values", MATRIX)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(rehearse: Rehearse, values: str, version: str) -> None:
    for document in rehearse(MATRIX[values], version=version).documents:
        assert_valid(document, version)


def assert_valid(document: Document, version: str) -> None:
    """Checks an object as a cluster of that version does, with all operators that the chart knows."""
    if model := CUSTOM.get(document["kind"]):
        assert_known(document, model)
    elif known := custom.keda_model(document):
        assert_known(*known)
    elif document["kind"] in custom.WRITTEN_DOWN:
        custom.check_written_down(document)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def assert_known(document: Document, model: type[BaseModel]) -> None:
    """Checks a custom resource: right types, and no field that the model would ignore."""
    kept = model.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert missing_paths(document, kept) == []


def missing_paths(wanted: object, kept: Any, path: str = "") -> list[str]:
    """Names what of a document is not kept."""
    if isinstance(wanted, dict):
        return [
            missing
            for key, value in wanted.items()
            for missing in (
                missing_paths(value, kept[key], f"{path}.{key}") if key in kept else [f"{path}.{key}"]
            )
        ]
    if isinstance(wanted, list):
        return [
            missing
            for number, value in enumerate(wanted)
            for missing in missing_paths(value, kept[number], f"{path}[{number}]")
        ]
    return []


@pytest.mark.parametrize("values", MATRIX)
def test_helm_lint_has_nothing_to_say(values: str) -> None:
    report = helm.lint(str(CHART), merged(FIVE, MATRIX[values]), strict=True)

    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= WARNING] == []


@pytest.mark.parametrize("values", MATRIX)
def test_no_two_objects_share_a_name(rehearse: Rehearse, values: str) -> None:
    names = [
        (document["kind"], document["metadata"]["name"]) for document in rehearse(MATRIX[values]).documents
    ]

    assert len(names) == len(set(names))


def test_older_kubernetes_is_refused(rehearse: Rehearse) -> None:
    with pytest.raises(helm.HelmError, match=r"requires kubeVersion: >=1\.25"):
        rehearse(version="1.24")


def test_a_long_release_name_still_makes_valid_names(rehearse: Rehearse) -> None:
    for document in rehearse(MATRIX["trial"], name="n" * 53).documents:
        assert len(document["metadata"]["name"]) <= 63


def test_two_releases_in_a_namespace_share_nothing(rehearse: Rehearse) -> None:
    first, second = (rehearse(MATRIX["trial"], name=name) for name in ("north", "south"))

    names = [{(d["kind"], d["metadata"]["name"]) for d in release.documents} for release in (first, second)]
    assert names[0] & names[1] == set()
    assert first.deployment["spec"]["selector"] != second.deployment["spec"]["selector"]
