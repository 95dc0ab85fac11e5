"""The chart takes what it documents, and says of each wrong value which one it is and what to do."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import jsonschema
import pytest

from devkit.generate.chart import derive, values
from devkit.generate.chart.values import Group
from tests.helm.conftest import Rehearse
from tests.helm.release import CHART, FIVE, MATRIX, at, merged

DOCUMENTED = values.read((CHART / "values.yaml").read_text())


def groups(group: Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    yield ".".join(path)
    for key, member in group.members.items():
        if isinstance(member, Group):
            yield from groups(member, (*path, key))


def test_schema_readme_and_settings_are_up_to_date() -> None:
    stale = [file.name for file, text in derive(CHART).items() if file.read_text() != text]

    assert stale == [], "run `make generate`"


def test_the_schema_is_one_that_every_helm_reads() -> None:
    jsonschema.Draft7Validator.check_schema(json.loads((CHART / "values.schema.json").read_text()))


@pytest.mark.parametrize("path", [*groups(DOCUMENTED)])
def test_an_unknown_value_is_refused_and_named(chart: helm.Chart, path: str) -> None:
    unknown = f"{path}.mispelt".lstrip(".")

    with pytest.raises(
        helm.HelmValuesError, match=rf"at '/?{path.replace('.', '/')}': additional properties 'mispelt'"
    ):
        chart.validate_schema(at(unknown, 1))


@pytest.mark.parametrize("path", [value.path for value in DOCUMENTED.values()], ids=".".join)
def test_a_value_of_the_wrong_type_is_refused_and_named(chart: helm.Chart, path: tuple[str, ...]) -> None:
    with pytest.raises(helm.HelmValuesError, match=f"at '/{'/'.join(path)}(/0)?'"):
        chart.validate_schema(at(".".join(path), [["no such type"]]))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.digest", "sha256:short"),
        ("image.pullPolicy", "Sometimes"),
        ("imagePullSecrets", [{"names": "mirror"}]),
        ("imagePullSecrets", [""]),
        ("broker.url", "http://rabbitmq:15672"),
        ("broker.managementUrl", "amqp://rabbitmq"),
        ("config.ccfs.baseUrl", "10.20.0.7:28080"),
        ("config.ccfs.baseUrl", "https://10.20.0.7:28080/CCFS"),
        ("config.concurrency", 0),
        ("config.amqp.heartbeat", 301),
        ("config.http.port", 80),
        ("config.log.level", "LOUD"),
        ("config.retry.delays", [10, -1]),
        ("accounts.keys", {".hidden": "key"}),
        ("storage.mountPath", "data"),
        ("strategy", {"type": "Sometimes"}),
        ("strategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}),
        ("livenessProbe", {"exec": {"command": ["true"]}}),
        ("livenessProbe", {"successThreshold": 2}),
        ("readinessProbe", {"terminationGracePeriodSeconds": 5}),
        ("storage.newClaim.accessModes", []),
        ("podDisruptionBudget.maxUnavailable", "half"),
        ("autoscaling.keda.scaleDownStabilization", 3601),
        ("topologySpreadConstraints", [{"maxSkew": 1}]),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_named(chart: helm.Chart, path: str, value: object) -> None:
    with pytest.raises(helm.HelmValuesError, match=f"'/{path.replace('.', '/')}"):
        chart.validate_schema(at(path, value))


def test_without_values_helm_says_all_that_is_needed(chart: helm.Chart) -> None:
    with pytest.raises(helm.HelmError) as refusal:
        chart.render({})

    lines = [line.strip() for line in str(refusal.value).splitlines() if line.startswith("  - ")]
    assert [line.split(":")[0] for line in lines] == [
        "- config.ccfs.baseUrl",
        "- broker",
        "- accounts",
        "- storage",
    ]


KEDA = at("autoscaling.keda.enabled", value=True)
ONE_POD = {
    "storage": {"existingClaim": "", "newClaim": {"enabled": True, "accessModes": ["ReadWriteOncePod"]}}
}
MANAGED = merged(KEDA, at("autoscaling.keda.managementApi.existingSecret", "management"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("broker.url", "amqp://rabbitmq"), "broker: set one of"),
        (at("broker.managementUrl", "http://u:p@mq:15672/"), "broker: managementUrlKey belongs to"),
        (at("broker.login.existingSecret", "user"), "broker: set one of"),
        (at("accounts.keys", {"app1": "key"}), "accounts: set one of"),
        (at("storage.emptyDir.enabled", value=True), "storage: set one of"),
        (at("tls.ccfs.ca", {"pem": "x", "existingSecret": "y"}), "tls.ccfs.ca: set only one of"),
        (merged(MANAGED, at("autoscaling.hpa.enabled", value=True)), "exclude each other"),
        (merged(MANAGED, at("autoscaling.keda.minReplicas", 11)), r"autoscaling.keda: minReplicas \(11\)"),
        (KEDA, "autoscaling.keda.managementApi: set one of"),
        (at("podDisruptionBudget.maxUnavailable", None), "podDisruptionBudget: set one of"),
        (at("config.ccfs.baseUrl", "https://999.1.1.1"), "config.ccfs.baseUrl: 999.1.1.1 is neither"),
        (at("config.ccfs.baseUrl", "https://1.2.3"), "config.ccfs.baseUrl: 1.2.3 is neither"),
        (at("config.ccfs.baseUrl", "https://10.0.0.1:70000"), "config.ccfs.baseUrl: there is no port 70000"),
        (ONE_POD, "storage.newClaim.accessModes"),
        (merged(ONE_POD, at("strategy.type", "Recreate")), "storage.newClaim.accessModes"),
        (at("terminationGracePeriodSeconds", 120), r"terminationGracePeriodSeconds: 120 must be above"),
        (at("extraEnv", [{"name": "WORKER_CONCURRENCY", "value": "1"}]), "extraEnv: WORKER_CONCURRENCY"),
    ],
)
def test_values_that_do_not_fit_together_are_refused_and_named(
    rehearse: Rehearse, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(helm.HelmError, match=message):
        rehearse(change)


def test_a_part_of_another_chart_gets_its_shared_values(rehearse: Rehearse) -> None:
    shared = {"imageRegistry": "mirror.example.com", "imagePullSecrets": [{"name": "mirror"}]}

    release = rehearse({"global": shared, "enabled": True}, at("image.repository", "calls/ccfs-worker"))

    assert release.worker["image"].startswith("mirror.example.com/calls/ccfs-worker:")
    assert release.pod["spec"]["imagePullSecrets"] == [{"name": "mirror"}]


@pytest.mark.parametrize("secret", ["mirror", {"name": "mirror"}])
def test_a_pull_secret_is_a_name_or_a_reference(rehearse: Rehearse, secret: object) -> None:
    shared = {"imagePullSecrets": ["mirror"]}

    release = rehearse(MATRIX["trial"], {"imagePullSecrets": [secret], "global": shared})

    assert [pod["imagePullSecrets"] for pod in release.pod_specs()] == [[{"name": "mirror"}]] * 3


def test_keys_for_anchors_are_let_through_and_others_are_not(chart: helm.Chart) -> None:
    chart.validate_schema({"x-common": {"a": 1}})

    with pytest.raises(helm.HelmValuesError, match="mispelt"):
        chart.validate_schema({"mispelt": 1})


def test_the_chart_says_of_itself_what_the_worker_says(chart: helm.Chart) -> None:
    project = tomllib.loads((CHART.parent / "pyproject.toml").read_text())["project"]
    about = chart.metadata

    assert (chart.name, about["appVersion"]) == (project["name"], project["version"])
    assert (about["home"], about["sources"]) == (project["urls"]["Homepage"], [project["urls"]["Source"]])
    assert about["maintainers"] == project["authors"]


def test_five_values_are_all_that_is_needed() -> None:
    def count(values: Any) -> int:
        return sum(map(count, values.values())) if isinstance(values, dict) else 1

    assert count(FIVE) == 5
