"""Prometheus and Grafana get the very alerts and dashboard that the documents speak of."""

import json

import pytest
import yaml

from tests.helm.conftest import Rehearse
from tests.helm.release import CHART, MATRIX, at

ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
RULE = at("monitoring.prometheusRule.enabled", value=True)


def test_the_alerts_are_those_of_the_file(rehearse: Rehearse) -> None:
    assert rehearse(RULE).one("PrometheusRule")["spec"] == {"groups": ALERTS}


def test_an_alert_can_be_left_out_and_groups_be_added(rehearse: Rehearse) -> None:
    names = [rule["alert"] for group in ALERTS for rule in group["rules"] if "alert" in rule]
    own = {"name": "own", "rules": [{"alert": "Own", "expr": "vector(1)"}]}

    groups = rehearse(
        RULE, at("monitoring.prometheusRule", {"disabled": names[:1], "extraGroups": [own]})
    ).one("PrometheusRule")["spec"]["groups"]

    assert [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule] == [
        *names[1:],
        "Own",
    ]


def test_the_dashboard_is_that_of_the_file(rehearse: Rehearse) -> None:
    shipped = rehearse(at("monitoring.dashboard.enabled", value=True)).one("ConfigMap", "-dashboard")

    assert json.loads(shipped["data"]["ccfs-worker.json"]) == json.loads(
        (CHART / "files" / "dashboard.json").read_text()
    )
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_pod_monitor_finds_the_workers_under_one_job_name(rehearse: Rehearse) -> None:
    release = rehearse(at("monitoring.podMonitor.enabled", value=True))

    monitor = release.one("PodMonitor")["spec"]
    labels = release.pod["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["jobLabel"]] == "ccfs-worker"
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint == {"port": release.worker["ports"][0]["name"], "path": "/metrics"}


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
