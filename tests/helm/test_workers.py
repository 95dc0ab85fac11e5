"""The workers' pods: how they start, are looked after, get what they need, and end."""

import base64
import re

import pytest

from tests.helm.conftest import Rehearse
from tests.helm.release import CHART, MATRIX, at, by_name, merged
from worker import settings


def test_a_rollout_never_runs_fewer_workers_than_asked_for(rehearse: Rehearse) -> None:
    spec = rehearse().deployment["spec"]

    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": 0}


def test_liveness_and_readiness_ask_different_questions(
    rehearse: Rehearse,
) -> None:
    worker = rehearse(at("config.http.port", 9090)).worker

    paths = {probe: worker[probe]["httpGet"]["path"] for probe in worker if probe.endswith("Probe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert {worker[probe]["httpGet"]["port"] for probe in paths} == {"http"}
    assert worker["ports"] == [{"name": "http", "containerPort": 9090, "protocol": "TCP"}]


def test_pods_may_all_go_before_new_ones_come(rehearse: Rehearse) -> None:
    """The API refuses `rollingUpdate` beside `Recreate`, and it is among the defaults."""
    assert rehearse(at("strategy.type", "Recreate")).deployment["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_can_be_turned_off(rehearse: Rehearse, probe: str) -> None:
    worker = rehearse(at(f"{probe}.enabled", value=False)).worker

    assert probe not in worker
    assert len([name for name in worker if name.endswith("Probe")]) == 2


def test_a_claim_for_one_pod_is_taken_if_pods_never_overlap(rehearse: Rehearse) -> None:
    alone = {
        "storage": {"existingClaim": "", "newClaim": {"enabled": True, "accessModes": ["ReadWriteOncePod"]}},
        "strategy": {"type": "Recreate"},
        "replicaCount": 1,
        "helmTest": {"enabled": False},
    }

    (claim,) = rehearse(alone).all("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]


@pytest.mark.parametrize("grace", [0, 0.5, 120, 1500])
def test_a_pod_has_time_to_drain(rehearse: Rehearse, grace: float) -> None:
    release = rehearse(at("config.shutdownGrace", grace))

    # Before the drain and after it, the worker waits for the broker at most so long each.
    broker = settings.AmqpGroup().publish_timeout
    assert release.pod["spec"]["terminationGracePeriodSeconds"] >= grace + 2 * broker


def test_the_proxy_of_the_documented_mesh_outlives_the_drain(rehearse: Rehearse) -> None:
    page = (CHART.parent / "docs/kubernetes.md").read_text()
    seconds = {int(found) for found in re.findall(r"(?:DrainDuration: |exit-seconds: \")([0-9]+)", page)}

    assert seconds == {rehearse().pod["spec"]["terminationGracePeriodSeconds"]}


def test_kubectl_describe_shows_what_settings_are_wrong(rehearse: Rehearse) -> None:
    pod = rehearse().pod["spec"]

    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_storage_is_tried_before_the_worker_starts(rehearse: Rehearse) -> None:
    pod = rehearse().pod["spec"]
    check = by_name(pod["initContainers"])["storage"]

    assert {"name": "storage", "mountPath": "/data"} in check["volumeMounts"]
    assert "initContainers" not in rehearse(at("storage.checkWritable", value=False)).pod["spec"]


@pytest.mark.parametrize(
    ("values", "volume"),
    [
        ("five", {"persistentVolumeClaim": {"claimName": "call-records"}}),
        ("new-claim", {"persistentVolumeClaim": {"claimName": "cdr-ccfs-worker-storage"}}),
        ("empty-dir", {"emptyDir": {"sizeLimit": "1Gi"}}),
        ("volume", {"csi": {"driver": "efs.csi.aws.com", "volumeAttributes": {"path": "/call-records"}}}),
    ],
)
def test_storage_is_what_was_chosen(rehearse: Rehearse, values: str, volume: dict[str, object]) -> None:
    assert rehearse(MATRIX[values]).volumes["storage"] == {"name": "storage", **volume}


def test_a_new_claim_is_shared_and_outlives_the_release(rehearse: Rehearse) -> None:
    claim = rehearse(MATRIX["new-claim"]).one("PersistentVolumeClaim", "-storage")

    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["annotations"] == {
        "backup.example.com/daily": "true",
        "helm.sh/resource-policy": "keep",
    }


@pytest.mark.parametrize(
    ("name", "spec"), [(None, {}), ("", {"storageClassName": ""}), ("nfs", {"storageClassName": "nfs"})]
)
def test_no_storage_class_is_not_the_empty_one(
    rehearse: Rehearse, name: str | None, spec: dict[str, str]
) -> None:
    claim = rehearse(MATRIX["new-claim"], at("storage.newClaim.storageClassName", name)).one(
        "PersistentVolumeClaim", "-storage"
    )

    assert {key: value for key, value in claim["spec"].items() if key == "storageClassName"} == spec


def checksums(release_annotations: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in release_annotations.items() if key.startswith("checksum/")}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("broker.url", "amqp://user:new@rabbitmq:5672/"),
        ("tls.broker.ca.pem", "new"),
        ("tls.ccfs.ca.pem", "new"),
    ],
)
def test_what_the_worker_reads_only_at_its_start_restarts_it(
    rehearse: Rehearse, path: str, value: str
) -> None:
    trial = merged(
        MATRIX["trial"], at("tls", {"broker": {"ca": {"pem": "old"}}, "ccfs": {"ca": {"pem": "old"}}})
    )

    assert rehearse(trial).pod != rehearse(trial, at(path, value)).pod


def test_a_new_account_key_restarts_nothing(rehearse: Rehearse) -> None:
    trial = MATRIX["trial"]

    assert rehearse(trial).pod == rehearse(trial, at("accounts.keys", {"app1": "new", "app2": "key"})).pod


def test_a_new_chart_with_the_same_image_restarts_nothing(rehearse: Rehearse) -> None:
    labels = rehearse().pod["metadata"]["labels"]

    assert "helm.sh/chart" not in labels


def test_trial_secrets_arrive_as_they_were_given(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["trial"])

    secret = release.one("Secret", "-accounts")["data"]
    assert {key: base64.b64decode(value) for key, value in secret.items()} == {"app1": b"secret-of-app1"}
    assert release.volumes["accounts"]["secret"] == {"secretName": "cdr-ccfs-worker-accounts"}
    url = release.one("Secret", "-broker")["data"]["url"]
    assert base64.b64decode(url) == b"amqp://user:pass@rabbitmq:5672/"


def test_existing_secrets_are_used_and_none_is_made(rehearse: Rehearse) -> None:
    release = rehearse()

    assert release.all("Secret") == []
    assert release.volumes["broker"]["secret"]["secretName"] == "ccfs-broker"
    assert release.volumes["accounts"]["secret"]["secretName"] == "ccfs-accounts"


def test_certificates_are_mounted_where_the_settings_say(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["private-ca"])

    mounts = {mount["mountPath"]: release.volumes[mount["name"]] for mount in release.worker["volumeMounts"]}
    files = {
        f"{path}/{item['path']}"
        for path, volume in mounts.items()
        for source in volume.values()
        if isinstance(source, dict)
        for item in source.get("items", ())
    }
    assert {value for name, value in release.env.items() if name.endswith("_FILE")} <= files
    assert "BEGIN CERTIFICATE" in release.one("ConfigMap", "-ca")["data"]["ccfs.crt"]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"tag": "1.2.3"}, "registry.example.com/ccfs-worker:1.2.3"),
        ({"digest": "sha256:" + "0" * 64}, "registry.example.com/ccfs-worker@sha256:" + "0" * 64),
    ],
)
def test_the_image_is_what_was_asked_for_everywhere(
    rehearse: Rehearse, image: dict[str, str], reference: str
) -> None:
    pods = rehearse(MATRIX["trial"], {"image": image}).pod_specs()

    images = {c["image"] for pod in pods for c in (*pod.get("initContainers", ()), *pod["containers"])}
    assert images == {reference}


def test_pods_spread_over_nodes_and_zones_as_far_as_they_can(rehearse: Rehearse) -> None:
    release = rehearse()

    constraints = release.pod["spec"]["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in constraints} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    for constraint in constraints:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"] == release.deployment["spec"]["selector"]


def test_templates_are_filled_in_where_they_are_allowed(rehearse: Rehearse) -> None:
    everything = rehearse(MATRIX["everything"])

    assert everything.pod["metadata"]["annotations"]["release"] == "cdr"
    assert by_name(everything.pod["spec"]["initContainers"])["wait"]["args"] == ["cdr"]
    assert "cdr-more" in [document["metadata"]["name"] for document in everything.all("ConfigMap")]
    assert everything.worker["envFrom"] == [{"configMapRef": {"name": "cdr-more"}}]
    assert everything.env["ZONE"] == "calls"
    assert everything.volumes["cdr-scratch"] == {"name": "cdr-scratch", "emptyDir": {"sizeLimit": "1Gi"}}
    assert by_name(everything.worker["volumeMounts"])["cdr-scratch"]["mountPath"] == "/tmp"  # noqa: S108
    assert everything.worker["lifecycle"]["preStop"]["exec"]["command"] == ["logger", "cdr ends"]
    (account,) = everything.all("ServiceAccount")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/cdr"}


def test_a_service_account_has_labels_of_its_own(rehearse: Rehearse) -> None:
    (account,) = rehearse(MATRIX["everything"]).all("ServiceAccount")

    assert account["metadata"]["labels"]["audited"] == "true"


def test_common_labels_are_on_everything(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["trial"], at("commonLabels", {"team": "{{ .Release.Namespace }}"}))

    assert {document["metadata"]["labels"]["team"] for document in release.documents} == {"calls"}
    assert release.pod["metadata"]["labels"]["team"] == "calls"


def test_common_annotations_are_on_everything_but_pods(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["trial"], at("commonAnnotations", {"owner": "{{ .Release.Name }}"}))

    assert {document["metadata"]["annotations"]["owner"] for document in release.documents} == {"cdr"}
    assert "owner" not in release.pod["metadata"].get("annotations", {})


def test_no_key_of_the_users_stands_twice_or_changes_a_selector(rehearse: Rehearse) -> None:
    """A YAML map with a key twice is refused by the API; the last one would win elsewhere."""
    taken = {"app.kubernetes.io/name": "theirs", "app.kubernetes.io/component": "theirs"}
    release = rehearse(
        MATRIX["everything"],
        {"commonLabels": taken, "podLabels": taken, "podAnnotations": {"prometheus.io/port": "1"}},
    )

    assert (
        release.deployment["spec"]["selector"]["matchLabels"].items()
        <= release.pod["metadata"]["labels"].items()
    )
    assert release.pod["metadata"]["annotations"]["prometheus.io/port"] == "1"


def test_everything_can_go_into_another_namespace(rehearse: Rehearse) -> None:
    release = rehearse(
        MATRIX["trial"], at("monitoring.podMonitor.enabled", value=True), {"namespaceOverride": "other"}
    )

    assert {document["metadata"]["namespace"] for document in release.documents} == {"other"}
    (monitor,) = release.all("PodMonitor")
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["other"]}


def test_a_mesh_can_be_kept_from_the_test_pod(rehearse: Rehearse) -> None:
    """Beside a sidecar, which never ends, it would hang."""
    (pod,) = rehearse(
        at(
            "helmTest",
            {
                "labels": {"sidecar.istio.io/inject": "false"},
                "annotations": {"linkerd.io/inject": "disabled"},
            },
        )
    ).all("Pod")

    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert pod["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"


def test_helm_test_checks_what_can_be_reached(rehearse: Rehearse) -> None:
    (pod,) = rehearse().all("Pod")

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert [container["args"] for container in pod["spec"]["containers"]] == [["check"]]


def test_helm_test_sees_a_job_through_with_a_simulator(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["trial"])

    (pod,) = release.all("Pod")
    submit = by_name(pod["spec"]["containers"])["submit"]
    assert submit["args"][:2] == ["submit", "app1"]
    assert re.fullmatch(r"[0-9]{8}_[A-Za-z0-9-]{1,36}\.zip", submit["args"][2])
    port = release.one("Service", "-simulator")["spec"]["ports"][0]["port"]
    assert release.env["WORKER_CCFS__BASE_URL"] == f"http://cdr-ccfs-worker-simulator:{port}"


def test_helm_test_submits_the_job_that_it_is_told(rehearse: Rehearse) -> None:
    (pod,) = rehearse(MATRIX["everything"]).all("Pod")

    assert by_name(pod["spec"]["containers"])["submit"]["args"][:3] == [
        "submit",
        "app1",
        "20240101_known.zip",
    ]


def test_helm_test_can_be_left_out(rehearse: Rehearse) -> None:
    assert rehearse(at("helmTest.enabled", value=False)).all("Pod") == []


def test_selectors_catch_only_what_they_are_for(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["trial"])
    pods = {
        "worker": release.pod["metadata"]["labels"],
        "simulator": release.one("Deployment", "-simulator")["spec"]["template"]["metadata"]["labels"],
        "test": release.all("Pod")[0]["metadata"]["labels"],
    }

    def caught(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    assert caught(release.deployment["spec"]["selector"]["matchLabels"]) == {"worker"}
    assert caught(release.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]) == {"worker"}
    assert caught(release.one("Service", "-simulator")["spec"]["selector"]) == {"simulator"}
