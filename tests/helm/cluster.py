"""As much of a Kubernetes API server as Helm asks before it installs: version, kinds, and objects if any.

Helm takes from it what a chart sees as `.Capabilities`; nothing is ever created.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPENSHIFT: Mapping[str, tuple[str, ...]] = {"security.openshift.io/v1": ("SecurityContextConstraints",)}
"""What OpenShift has beyond that."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "keda.sh/v1alpha1": ("ScaledObject", "TriggerAuthentication"),
    "monitoring.coreos.com/v1": ("PodMonitor", "PrometheusRule"),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}
"""What the cluster knows, by group and version."""


@contextmanager
def open_cluster(
    version: str,
    kinds: Mapping[str, tuple[str, ...]] = KINDS,
    objects: Iterable[Mapping[str, Any]] = (),
) -> Iterator[str]:
    """Serves a cluster.

    Args:
        version: its Kubernetes version, such as `1.29`.
        kinds: what it knows.
        objects: what exists.

    Yields:
        The URL of its API.
    """
    answers = _answers(version, kinds) | {_path(found): found for found in objects}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            body = json.dumps(answer or {"kind": "Status", "code": 404, "reason": "NotFound"}).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _answers(version: str, served: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    major, minor = version.split(".")
    answers: dict[str, Any] = {
        "/version": {"major": major, "minor": minor, "gitVersion": f"v{version}.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [_group(name) for name in served if name != "v1"]},
        "/openapi/v3": {
            "paths": {_root(name)[1:]: {"serverRelativeURL": f"/openapi/v3{_root(name)}"} for name in served}
        },
    }
    for name, kinds in served.items():
        resources = [{"name": _plural(kind), "namespaced": True, "kind": kind} for kind in kinds]
        answers[_root(name)] = {"kind": "APIResourceList", "groupVersion": name, "resources": resources}
        answers[f"/openapi/v3{_root(name)}"] = _openapi(name, kinds)
    return answers


def _path(found: Mapping[str, Any]) -> str:
    metadata = found["metadata"]
    kind = _plural(found["kind"])
    return f"{_root(found['apiVersion'])}/namespaces/{metadata['namespace']}/{kind}/{metadata['name']}"


def _root(name: str) -> str:
    return f"/apis/{name}" if "/" in name else f"/api/{name}"


def _plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")


def _group(name: str) -> dict[str, object]:
    group, version = name.split("/")
    served = {"groupVersion": name, "version": version}
    return {"name": group, "versions": [served], "preferredVersion": served}


def _openapi(name: str, kinds: tuple[str, ...]) -> dict[str, object]:
    """Tells Helm that the server itself validates each kind."""
    group, _, version = name.rpartition("/")
    return {
        "openapi": "3.0.0",
        "info": {"title": "cluster", "version": "1"},
        "paths": {
            f"{_root(name)}/namespaces/{{namespace}}/{_plural(kind)}/{{name}}": {
                "patch": {
                    "parameters": [{"name": "fieldValidation", "in": "query"}],
                    "responses": {},
                    "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
                }
            }
            for kind in kinds
        },
    }
