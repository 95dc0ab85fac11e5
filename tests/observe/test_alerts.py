"""The alert rules: judged by promtool, in step with the metrics and with the runbook."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import ErrorCode
from worker.observe.metrics import OK, Metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm/files/alerts.yaml"
CASES = Path(__file__).with_name("alerts.test.yaml")
RUNBOOK = (ROOT / "docs/runbook.md").read_text()

GROUPED: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
RULES_BY_ALERT: dict[str, list[dict[str, Any]]] = {
    name: [rule for rule in GROUPED if rule.get("alert") == name]
    for name in dict.fromkeys(rule["alert"] for rule in GROUPED if "alert" in rule)
}
"""An alert may have a rule for each severity."""

RECORDED = {rule["record"] for rule in GROUPED if "record" in rule}
LABELS_OF_SCRAPES = {"job", "namespace", "instance", "le"}


def promtool_says(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules(promtool: str) -> None:
    assert f"{len(GROUPED)} rules found" in promtool_says(promtool, "check", "rules", str(RULES))


def test_each_alert_fires_when_it_should(promtool: str) -> None:
    assert "SUCCESS" in promtool_says(promtool, "test", "rules", str(CASES))


@pytest.mark.parametrize("alert", RULES_BY_ALERT)
def test_an_alert_is_shown_firing_and_keeping_quiet(alert: str) -> None:
    cases = [
        bool(case["exp_alerts"])
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert set(cases) == {True, False}


@pytest.mark.parametrize("alert", RULES_BY_ALERT)
def test_each_severity_of_an_alert_is_shown(alert: str) -> None:
    shown = {
        expected["exp_labels"]["severity"]
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
        for expected in case["exp_alerts"]
    }
    assert shown == {rule["labels"]["severity"] for rule in RULES_BY_ALERT[alert]}


@pytest.mark.parametrize("rule", GROUPED, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = {entry.name: set(entry.labels) for entry in Metrics("").catalogue}
    expression = rule["expr"]
    recorded = set(re.findall(r"ccfs_worker:[\w:]+", expression))
    assert recorded <= RECORDED
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"ccfs_worker_\w+", expression)}
    assert names <= known.keys()
    labels = set().union(*(known[name] for name in names)) | LABELS_OF_SCRAPES
    assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", expression)) <= labels
    for codes in re.findall(r'code\W+"([^"]+)"', expression):
        assert set(codes.split("|")) <= {OK, *ErrorCode}


@pytest.mark.parametrize("alert", RULES_BY_ALERT)
def test_an_alert_leads_to_its_page_of_the_runbook(alert: str) -> None:
    for rule in RULES_BY_ALERT[alert]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    section = re.search(rf"^### {alert}\n(.*?)(?=^##|\Z)", RUNBOOK, re.DOTALL | re.MULTILINE)
    assert section, f"docs/runbook.md has no section {alert}"
    for part in ("**Means:**", "**Look at:**", "**Do:**"):
        assert part in section[1]


def test_the_runbook_knows_no_other_alerts() -> None:
    assert set(re.findall(r"^### (Ccfs\w+)$", RUNBOOK, re.MULTILINE)) == RULES_BY_ALERT.keys()


@pytest.mark.parametrize("code", ErrorCode)
def test_the_runbook_says_what_to_do_about_an_error_code(code: ErrorCode) -> None:
    assert re.search(rf"^\| `{code}` \|", RUNBOOK, re.MULTILINE)
