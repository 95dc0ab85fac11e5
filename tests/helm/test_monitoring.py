"""Prometheus and Grafana get the very alerts and dashboard that the documents speak of."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.helm.conftest import Rehearse
from tests.helm.release import CHART, MATRIX, Release, at, merged

ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
THRESHOLDS = "monitoring.prometheusRule.thresholds"
RULE = at("monitoring.prometheusRule.enabled", value=True)


def test_the_alerts_are_those_of_the_file(rehearse: Rehearse) -> None:
    shipped = rehearse(RULE).one("PrometheusRule")["spec"]["groups"]

    assert [unscoped(group) for group in shipped] == ALERTS


def unscoped(group: dict[str, Any]) -> dict[str, Any]:
    """A group without the namespace that the alert on missing pods cannot take from a metric."""
    for rule in group["rules"]:
        if rule.get("alert") == "CcfsWorkerNoneUp":
            assert rule["labels"].pop("namespace") == "calls"
    return group


def rules(release: Release, alert: str) -> list[dict[str, Any]]:
    return [
        rule
        for group in release.one("PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("alert") == alert
    ]


WORDS = sorted(
    set(re.findall(r"  # ([a-z]\w+)$", (CHART / "files" / "alerts.yaml").read_text(), re.MULTILINE))
)
CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "deadQueue": (at("config.amqp.deadQueue", "other"), 'queue="other"'),
    "objectiveSeconds": (at(f"{THRESHOLDS}.objectiveSeconds", 4096), 'le="4096.0"'),
    "storageRoomBytes": (at("config.storage.maxFileBytes", 1_099_511_627_776), "1099511627776"),
    "stuckFor": (at("config.jobTimeout", 60), "1260s"),
}
"""Those that follow from something else, or are not written as they are."""


@pytest.mark.parametrize("word", WORDS)
def test_a_threshold_is_what_the_values_say(rehearse: Rehearse, word: str) -> None:
    figure = 0.75 if "Share" in word or word == "objective" else 123
    change, text = CHANGED.get(word, (at(f"{THRESHOLDS}.{word}", figure), str(figure)))

    spec = rehearse(RULE, change).one("PrometheusRule")["spec"]

    # In an expression the comment is still there; in YAML it is gone.
    assert f"{text}  # {word}" in str(spec) or f"'for': '{text}'" in str(spec)


def test_every_threshold_of_the_values_is_one_of_the_rules() -> None:
    set_by = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["prometheusRule"]["thresholds"]

    assert set_by.keys() | {"deadQueue"} == set(WORDS)


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, True),
        (at("replicaCount", 0), False),
        (MATRIX["hpa"], True),
        (MATRIX["keda"], False),
        (merged(MATRIX["keda"], at("autoscaling.keda.minReplicas", 1)), True),
    ],
)
def test_no_pod_is_an_alert_where_one_has_to_be_there(
    rehearse: Rehearse, values: dict[str, Any], *, asked: bool
) -> None:
    assert bool(rules(rehearse(RULE, values), "CcfsWorkerNoneUp")) is asked


def test_no_pod_is_asked_of_this_release_where_its_pods_can_be_told(rehearse: Rehearse) -> None:
    release = rehearse(RULE, at("monitoring.podMonitor.enabled", value=True))

    (rule,) = rules(release, "CcfsWorkerNoneUp")
    assert 'absent(up{job="ccfs-worker", namespace="calls", pod=~"cdr-ccfs-worker-' in rule["expr"]


def test_alerts_have_the_labels_and_the_runbook_of_the_house(rehearse: Rehearse) -> None:
    house = {"additionalRuleLabels": {"team": "calls"}, "runbookUrl": "https://wiki.example.com/cdr"}
    release = rehearse(RULE, at("monitoring.prometheusRule", house))

    (rule,) = rules(release, "CcfsWorkerDown")
    assert rule["labels"] == {"severity": "warning", "team": "calls"}
    assert rule["annotations"]["runbook_url"] == "https://wiki.example.com/cdr#ccfsworkerdown"


def test_an_alert_can_be_left_out_and_groups_be_added(rehearse: Rehearse) -> None:
    names = list(
        dict.fromkeys(rule["alert"] for group in ALERTS for rule in group["rules"] if "alert" in rule)
    )
    own = {"name": "own", "rules": [{"alert": "Own", "expr": "vector(1)"}]}

    groups = rehearse(
        RULE, at("monitoring.prometheusRule", {"disabled": names[:1], "extraGroups": [own]})
    ).one("PrometheusRule")["spec"]["groups"]

    left = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert list(dict.fromkeys(left)) == [*names[1:], "Own"]


def test_the_dashboard_is_that_of_the_file(rehearse: Rehearse) -> None:
    shipped = rehearse(at("monitoring.dashboard.enabled", value=True)).one("ConfigMap", "-dashboard")

    assert json.loads(shipped["data"]["ccfs-worker.json"]) == json.loads(
        (CHART / "files" / "dashboard.json").read_text()
    )
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_dashboard_asks_for_the_queues_of_the_values(rehearse: Rehearse) -> None:
    queues = {"jobsQueue": "cdr.jobs", "deadQueue": "cdr.dead", "failedQueue": "cdr.failed"}

    shipped = rehearse(
        at("monitoring.dashboard.enabled", value=True),
        at("config.amqp", queues),
        at(f"{THRESHOLDS}.objectiveSeconds", 4096),
    ).one("ConfigMap", "-dashboard")["data"]["ccfs-worker.json"]

    assert json.loads(shipped)
    assert "ccfs." not in shipped
    assert "1024" not in shipped
    assert all(f'queue=\\"{name}\\"' in shipped for name in queues.values())
    assert 'le=\\"4096.0\\"' in shipped


def test_the_pod_monitor_finds_the_workers_under_one_job_name(rehearse: Rehearse) -> None:
    release = rehearse(at("monitoring.podMonitor.enabled", value=True))

    monitor = release.one("PodMonitor")["spec"]
    labels = release.pod["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint == {
        "port": release.worker["ports"][0]["name"],
        "path": "/metrics",
        "relabelings": [{"targetLabel": "job", "replacement": "ccfs-worker"}],
    }


def test_another_name_of_the_chart_silences_no_alert(rehearse: Rehearse) -> None:
    release = rehearse(at("monitoring.podMonitor.enabled", value=True), {"nameOverride": "downloads"})

    (monitor,) = release.all("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert {"targetLabel": "job", "replacement": "ccfs-worker"} in endpoint["relabelings"]
    assert "jobLabel" not in monitor["spec"]


def test_an_endpoint_has_what_a_mesh_asks_for(rehearse: Rehearse) -> None:
    more = {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}, "honorLabels": True}

    monitor = rehearse(at("monitoring.podMonitor", {"enabled": True, "endpoint": more})).one("PodMonitor")

    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert more.items() <= endpoint.items()


def test_a_prometheus_without_operator_finds_the_port(rehearse: Rehearse) -> None:
    annotations = rehearse(at("monitoring.scrapeAnnotations", value=True), at("config.http.port", 9090)).pod[
        "metadata"
    ]["annotations"]

    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "9090",
    }


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule", "ScaledObject"])
def test_nothing_asks_for_custom_resources_by_default(rehearse: Rehearse, kind: str) -> None:
    assert rehearse().all(kind) == []
    assert rehearse(MATRIX["trial"]).all(kind) == []
