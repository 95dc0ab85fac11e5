"""As a part of another chart, all that is on by default can be turned off without null.

Helm 4 takes no notice of a null in the values of a parent chart.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from devkit.generate.chart import values
from devkit.generate.chart.values import Value
from tests.helm.conftest import Rehearse
from tests.helm.release import CHART, FIVE, MATRIX, NAME, Document, Values, at, merged, render

DOCUMENTED = [*values.read((CHART / "values.yaml").read_text()).values()]

NEEDED = {
    "autoscaling.keda.managementApi.parameters.host": "KEDA has to know where to ask",
    "networkPolicy.dns.ports": "the broker and CC-FS have names",
    "nodeSelector.kubernetes.io/os": "the image is one for Linux, and an empty text is a label's value here",
    "storage.newClaim.accessModes": "a claim has one",
}
"""What cannot be turned off, and why."""


def ways() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each default that is on, and the values that turn it off; a figure or a name only has others."""
    for value in DOCUMENTED:
        for path, default in leaves(value.path, value.default):
            off = way(value, default)
            if default and off != default and ".".join(path) not in NEEDED:
                yield ".".join(path), nested(path, off)


def leaves(path: tuple[str, ...], default: object) -> Iterator[tuple[tuple[str, ...], object]]:
    if not isinstance(default, dict):
        yield path, default
        return
    for key, inner in default.items():
        yield from leaves((*path, key), inner)


def way(value: Value, default: object) -> object:
    if isinstance(default, bool):
        return False
    if isinstance(default, list):
        return []
    # What is passed on to Kubernetes; where the schema knows the keys, each has to be something.
    passed_on = isinstance(value.default, dict) and "properties" not in value.schema
    return "" if passed_on else default


def nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


WAYS = dict(ways())


LAYERS: tuple[Values, ...] = (
    {},
    MATRIX["new-claim"],
    merged(MATRIX["trial"], at("monitoring.dashboard.enabled", value=True)),
)
"""In which everything that is on by default can be seen."""


@pytest.fixture(scope="module")
def plain(chart: helm.Chart) -> list[tuple[Document, ...]]:
    """The objects of each layer."""
    return [render(chart, merged(FIVE, layer), NAME).documents for layer in LAYERS]


@pytest.mark.parametrize("path", WAYS)
def test_a_default_can_be_turned_off_without_null(
    rehearse: Rehearse, plain: list[tuple[Document, ...]], path: str
) -> None:
    made = (rehearse(layer, WAYS[path]).documents for layer in LAYERS)
    off = next(documents for documents, before in zip(made, plain, strict=True) if documents != before)

    assert f"'{path.rpartition('.')[2]}': ''" not in str(off)


def test_an_empty_text_leaves_a_field_out(rehearse: Rehearse) -> None:
    nothing = {
        "podSecurityContext": {"fsGroup": "", "seccompProfile": {"type": ""}, "runAsUser": 1_000_650_000}
    }

    release = rehearse(nothing, at("resources.limits.memory", ""))

    context = release.pod["spec"]["securityContext"]
    assert context == {
        "runAsNonRoot": True,
        "runAsUser": 1_000_650_000,
        "runAsGroup": 10001,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    assert release.worker["resources"] == {"requests": {"cpu": "250m", "memory": "256Mi"}}


def test_what_cannot_be_turned_off_is_still_there() -> None:
    paths = {".".join(path) for value in DOCUMENTED for path, _ in leaves(value.path, value.default)}

    assert NEEDED.keys() <= paths


def as_part(folder: Path, part: dict[str, Any]) -> dict[str, Any]:
    """The workers' pods, where these are the parent chart's values of it."""
    (folder / "charts").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")
    (folder / "values.yaml").write_text(yaml.safe_dump({"ccfs-worker": merged(FIVE, part)}))
    shutil.copytree(CHART, folder / "charts/ccfs-worker")
    with helm.Chart.load(folder) as parent:
        files = parent.render({}, name="cdr", namespace="calls")
    (text,) = (text for file, text in files.items() if file.endswith("/deployment.yaml"))
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]["spec"]
    return spec


def test_a_parents_null_is_not_heard_and_empty_text_is(tmp_path: Path) -> None:
    null, empty = (
        as_part(tmp_path / name, {"podSecurityContext": {"fsGroup": off}, "x-anchors": [1]})
        for name, off in (("null", None), ("empty", ""))
    )

    assert null["securityContext"]["fsGroup"] == 10001
    assert "fsGroup" not in empty["securityContext"]


def test_a_part_of_another_chart_runs_on_openshift(tmp_path: Path) -> None:
    context = as_part(tmp_path / "parent", at("openshift.enabled", value=True))["securityContext"]

    assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup"}
