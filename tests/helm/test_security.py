"""Every pod keeps to the restricted Pod Security Standard, and gets nothing that it does not need."""

import pytest

from tests.helm.conftest import Rehearse
from tests.helm.release import MATRIX, Document, at

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""The kinds that the standard allows (kubernetes.io, Pod Security Standards, restricted)."""

OURS = {"worker", "storage", "simulator", "check", "submit"}


def breaches(pod: Document) -> list[str]:
    """Says what in a pod the restricted standard forbids; containers that the user adds are the user's."""
    context = pod["securityContext"]
    found = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        found.append("runs as root")
    if context["seccompProfile"]["type"] != "RuntimeDefault":
        found.append("no seccomp profile")
    found += [str(volume) for volume in pod["volumes"] if not ALLOWED_VOLUMES & volume.keys()]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        if container["name"] in OURS:
            found += container_breaches(container)
    return found


def container_breaches(container: Document) -> list[str]:
    context = container["securityContext"]
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    found = [field for field, value in wanted.items() if context.get(field) != value]
    return [*found, *("hostPort" for port in container.get("ports", ()) if "hostPort" in port)]


@pytest.mark.parametrize("values", MATRIX)
def test_pods_are_restricted(rehearse: Rehearse, values: str) -> None:
    pods = list(rehearse(MATRIX[values]).pod_specs())

    assert [breach for pod in pods for breach in breaches(pod)] == []
    assert len(pods) >= 2


@pytest.mark.parametrize("values", MATRIX)
def test_no_pod_can_speak_with_the_kubernetes_api(rehearse: Rehearse, values: str) -> None:
    release = rehearse(MATRIX[values])

    assert {pod["automountServiceAccountToken"] for pod in release.pod_specs()} == {False}
    assert {pod["enableServiceLinks"] for pod in release.pod_specs()} == {False}
    assert {account["automountServiceAccountToken"] for account in release.all("ServiceAccount")} == {False}
    assert not any(release.all(kind) for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"))


def test_secrets_and_certificates_are_mounted_to_be_read_only(rehearse: Rehearse) -> None:
    mounts = rehearse(MATRIX["private-ca"]).worker["volumeMounts"]

    assert {mount["name"] for mount in mounts if not mount.get("readOnly")} == {"storage"}


def test_openshift_may_choose_the_user(rehearse: Rehearse) -> None:
    context = rehearse(MATRIX["openshift"]).pod["spec"]["securityContext"]

    assert context == {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_openshift_is_found_out(rehearse: Rehearse) -> None:
    """As part of another chart nothing else works: there, Helm 4 takes no notice of null."""
    found, told, denied = (
        rehearse(version="openshift"),
        rehearse(at("openshift.enabled", value=True)),
        rehearse(at("openshift.enabled", value=False), version="openshift"),
    )

    for release in (found, told):
        assert not release.pod["spec"]["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}
        dns = release.one("NetworkPolicy")["spec"]["egress"][0]["ports"]
        assert {port["port"] for port in dns} == {53, 5353}
    assert denied.pod["spec"]["securityContext"]["runAsUser"] == 10001


def test_a_token_is_mounted_for_who_asks(rehearse: Rehearse) -> None:
    release = rehearse(at("serviceAccount.automountToken", value=True))

    assert release.pod["spec"]["automountServiceAccountToken"] is True
    assert release.one("ServiceAccount")["automountServiceAccountToken"] is True


def test_pods_can_have_user_ids_of_their_own(rehearse: Rehearse) -> None:
    assert "hostUsers" not in rehearse().pod["spec"]
    assert rehearse(at("hostUsers", value=False)).pod["spec"]["hostUsers"] is False


@pytest.mark.parametrize("values", MATRIX)
def test_a_secret_value_is_only_in_a_secret(rehearse: Rehearse, values: str) -> None:
    release = rehearse(MATRIX[values])

    for document in release.documents:
        if document["kind"] != "Secret":
            assert "secret-of-app1" not in str(document)
            assert "user:pass" not in str(document)
    assert "secret-of-app1" not in release.notes
    assert "user:pass" not in release.notes
