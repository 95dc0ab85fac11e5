"""The real Helm engine, against clusters of the versions that the chart is for."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol

import helm_python as helm
import kubernetes_validate
import pytest

from tests.helm.cluster import KINDS, OPENSHIFT, open_cluster
from tests.helm.release import CHART, FIVE, NAME, NAMESPACE, Release, Values, install, merged, render

NEWEST = kubernetes_validate.latest_version().removesuffix(".0")
VERSIONS = ("1.25", "1.29", "1.33", NEWEST)


THREE_PODS = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": f"{NAME}-ccfs-worker",
        "namespace": NAMESPACE,
        # Otherwise Helm takes it for somebody else's.
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": NAME, "meta.helm.sh/release-namespace": NAMESPACE},
    },
    "spec": {"replicas": 3},
}
"""The workers' Deployment, as a release of before has left it."""


class Rehearse(Protocol):
    """Makes a release of the five values and others over them, into a cluster if a version is given."""

    def __call__(self, *layers: Values, version: str | None = None, name: str = NAME) -> Release: ...


@pytest.fixture(scope="session")
def clusters() -> Iterator[Mapping[str, str]]:
    """The URLs of clusters by their Kubernetes version; `openshift` and `three pods` are of the newest."""
    with ExitStack() as stack:
        plain = {version: stack.enter_context(open_cluster(version)) for version in (*VERSIONS, "1.24")}
        openshift = stack.enter_context(open_cluster(NEWEST, {**KINDS, **OPENSHIFT}))
        running = stack.enter_context(open_cluster(NEWEST, objects=[THREE_PODS]))
        yield {**plain, "openshift": openshift, "three pods": running}


@pytest.fixture(scope="session")
def chart() -> Iterator[helm.Chart]:
    """The chart, loaded."""
    with helm.Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture
def rehearse(chart: helm.Chart, clusters: Mapping[str, str]) -> Rehearse:
    """Rehearses installations."""

    def run(*layers: Values, version: str | None = None, name: str = NAME) -> Release:
        values = merged(FIVE, *layers)
        if version is None:
            return render(chart, values, name)
        return install(chart, values, name, clusters[version])

    return run
