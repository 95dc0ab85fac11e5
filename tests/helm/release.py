"""What Helm makes of the chart and some values."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

CHART = Path(__file__).parents[2] / "helm"
NAME, NAMESPACE = "cdr", "calls"

_VALUES = Path(__file__).parent / "values"

Values = Mapping[str, Any]
Document = dict[str, Any]
"""A Kubernetes object as read from YAML."""


def values_file(name: str) -> dict[str, Any]:
    """Reads values of the matrix."""
    read: dict[str, Any] = yaml.safe_load((_VALUES / f"{name}.yaml").read_text())
    return read


FIVE: Values = values_file("five")
"""The five values that an installation needs."""

MATRIX: Mapping[str, Values] = {file.stem: values_file(file.stem) for file in sorted(_VALUES.glob("*.yaml"))}
"""Values to lay over the five, by what they are about."""


@dataclass(frozen=True)
class Release:
    """An installation that was only rehearsed.

    Attributes:
        documents: the objects, those of `helm test` included.
        notes: what Helm says at the end.
    """

    documents: tuple[Document, ...]
    notes: str

    def all(self, kind: str) -> list[Document]:
        """Gives the objects of a kind."""
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, suffix: str = "") -> Document:
        """Gives the object of a kind whose name ends so after the release's."""
        (found,) = (
            document
            for document in self.all(kind)
            if document["metadata"]["name"] == f"{NAME}-ccfs-worker{suffix}"
        )
        return found

    def pod_specs(self) -> Iterator[Document]:
        """Gives the specification of every pod that this release makes."""
        yield from (pod["spec"] for pod in self.all("Pod"))
        yield from (deployment["spec"]["template"]["spec"] for deployment in self.all("Deployment"))

    @property
    def deployment(self) -> Document:
        """The workers' Deployment."""
        (found,) = (
            deployment
            for deployment in self.all("Deployment")
            if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
        )
        return found

    @property
    def pod(self) -> Document:
        """The workers' pods: metadata and specification."""
        template: Document = self.deployment["spec"]["template"]
        return template

    @property
    def worker(self) -> Document:
        """The workers' container."""
        return by_name(self.pod["spec"]["containers"])["worker"]

    @property
    def env(self) -> dict[str, str]:
        """The worker's environment variables, without those that a Secret gives."""
        return {entry["name"]: entry["value"] for entry in self.worker["env"] if "value" in entry}

    @property
    def volumes(self) -> dict[str, Document]:
        """The workers' volumes by name."""
        return by_name(self.pod["spec"]["volumes"])


def by_name(items: list[Document]) -> dict[str, Document]:
    """Gives the items of a list of Kubernetes by their names."""
    return {item["name"]: item for item in items}


def merged(*layers: Values) -> dict[str, Any]:
    """Lays values over values, as Helm does with several files."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            mappings = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if mappings else value
    return result


def at(path: str, value: object) -> dict[str, Any]:
    """Makes values of one value, as `--set a.b=value` does."""
    *parents, last = path.split(".")
    values: dict[str, Any] = {last: value}
    for parent in reversed(parents):
        values = {parent: values}
    return values


def render(chart: helm.Chart, values: Values, name: str) -> Release:
    """Renders the chart (`helm template`), as for a recent Kubernetes.

    Args:
        chart: the chart.
        values: the values.
        name: the release's name.

    Raises:
        helm.HelmError: Helm refuses the values.
    """
    files = chart.render(dict(values), name=name, namespace=NAMESPACE, revision=1)
    notes = next(text for file, text in files.items() if file.endswith("/NOTES.txt"))
    manifests = (text for file, text in files.items() if file.endswith(".yaml"))
    return Release(tuple(document for text in manifests for document in _documents(text)), notes)


def install(chart: helm.Chart, values: Values, name: str, cluster: str) -> Release:
    """Rehearses an installation into a cluster (`helm install --dry-run=server`).

    Args:
        chart: the chart.
        values: the values.
        name: the release's name.
        cluster: the URL of the cluster's API.

    Raises:
        helm.HelmError: Helm refuses the values or the cluster.
    """
    with helm.Config(namespace=NAMESPACE, storage_driver="memory", kube_apiserver=cluster) as config:
        done = config.install(chart, name, dict(values), dry_run="server")
    # The hooks of `helm test` are not among what Helm installs.
    tests = render(chart, values, name).all("Pod")
    return Release((*_documents(done["manifest"]), *tests), done["notes"])


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice in a map, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def _documents(text: str) -> Iterator[Document]:
    return (document for document in yaml.load_all(text, _Strict) if document)
