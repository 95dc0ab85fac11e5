"""How many pods run: by hand, by KEDA, by a HorizontalPodAutoscaler, and through node drains."""

from collections.abc import Mapping

import helm_python as helm
import pytest

from tests.helm.conftest import Rehearse
from tests.helm.release import FIVE, MATRIX, NAME, Release, at, install, merged
from worker import settings
from worker.broker import Names
from worker.settings import Settings

JOB_TIMEOUT = Settings.model_fields["job_timeout"].default


@pytest.mark.parametrize("values", ["keda", "hpa"])
def test_a_scaler_and_the_chart_do_not_fight_over_replicas(rehearse: Rehearse, values: str) -> None:
    """Where the chart sees no cluster: there it asks for as many pods as run."""
    assert "replicas" not in rehearse(MATRIX[values]).deployment["spec"]


def triggers(release: Release) -> dict[str, dict[str, str]]:
    return {
        trigger["metadata"]["queueName"]: trigger["metadata"]
        for trigger in release.one("ScaledObject")["spec"]["triggers"]
    }


def test_keda_counts_the_jobs_that_workers_have_in_hand(rehearse: Rehearse) -> None:
    jobs = triggers(rehearse(MATRIX["keda"]))[settings.AmqpGroup().jobs_queue]

    assert jobs["protocol"] == "http"
    assert "excludeUnacknowledged" not in jobs
    assert jobs["value"] == str(4 * Settings.model_fields["concurrency"].default)


def test_keda_also_wakes_a_worker_for_what_the_broker_gave_up_on(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["keda"], at("config.amqp.jobsQueue", "calls"))

    assert set(triggers(release)) == {"calls", Names(jobs="calls").dropped}


def test_keda_logs_in_with_the_keys_of_the_secret(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["keda"])

    references = release.one("TriggerAuthentication")["spec"]["secretTargetRef"]
    assert references == [
        {"parameter": "host", "name": "ccfs-management", "key": "url"},
        {"parameter": "password", "name": "ccfs-management", "key": "password"},
        {"parameter": "username", "name": "ccfs-management", "key": "username"},
    ]
    for trigger in release.one("ScaledObject")["spec"]["triggers"]:
        assert trigger["authenticationRef"] == {
            "name": release.one("TriggerAuthentication")["metadata"]["name"]
        }


def test_keda_logs_in_with_an_authentication_that_exists(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["everything"])

    (scaled,) = release.all("ScaledObject")
    assert scaled["spec"]["triggers"][0]["authenticationRef"] == {
        "kind": "ClusterTriggerAuthentication",
        "name": "rabbitmq",
    }
    assert release.all("TriggerAuthentication") == []


def test_a_trial_url_of_the_management_api_is_kept_in_a_secret(rehearse: Rehearse) -> None:
    release = rehearse(
        MATRIX["keda"],
        at("autoscaling.keda.managementApi", {"existingSecret": "", "url": "http://u:p@rabbitmq:15672/"}),
    )

    (reference,) = release.one("TriggerAuthentication")["spec"]["secretTargetRef"]
    assert release.one("Secret", "-management")["data"].keys() == {reference["key"]}
    assert release.one("Secret", "-management")["metadata"]["name"] == reference["name"]


@pytest.mark.parametrize(("timeout", "window"), [(None, JOB_TIMEOUT + 60), (100.5, 161), (3590, 3600)])
@pytest.mark.parametrize("values", ["keda", "hpa"])
def test_scaling_down_waits_for_longer_than_a_job_takes(
    rehearse: Rehearse, values: str, timeout: float | None, window: float
) -> None:
    release = rehearse(
        MATRIX[values], at("config.jobTimeout", timeout), at("config.amqp.consumerTimeout", 7200)
    )

    if values == "keda":
        behavior = release.one("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"][
            "behavior"
        ]
    else:
        behavior = release.one("HorizontalPodAutoscaler")["spec"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == window


def test_no_pod_ends_because_the_queue_is_out_of_sight(rehearse: Rehearse) -> None:
    fallback = rehearse(MATRIX["keda"], at("replicaCount", 5)).one("ScaledObject")["spec"]["fallback"]

    assert fallback == {"failureThreshold": 3, "replicas": 5, "behavior": "currentReplicasIfHigher"}


def test_keda_before_2_17_knows_no_behavior_of_the_fallback(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["keda"], at("autoscaling.keda.fallback.behavior", ""))

    assert "behavior" not in release.one("ScaledObject")["spec"]["fallback"]


def test_more_of_keda_may_be_set_and_wins(rehearse: Rehearse) -> None:
    (scaled,) = rehearse(MATRIX["everything"]).all("ScaledObject")

    spec = scaled["spec"]
    assert spec["initialCooldownPeriod"] == 60
    assert spec["fallback"]["behavior"] == "currentReplicas"
    assert spec["advanced"]["restoreToOriginalReplicaCount"] is True
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 15
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_a_few_jobs_may_wait_until_the_first_pod_starts(rehearse: Rehearse) -> None:
    """What the broker gave up on does not wait: it is little, and somebody waits for its outcome."""
    release = rehearse(MATRIX["keda"], at("autoscaling.keda.activationValue", 20))

    jobs, dropped = Names().jobs, Names().dropped
    assert {queue: found["activationValue"] for queue, found in triggers(release).items()} == {
        jobs: "20",
        dropped: "0",
    }


@pytest.mark.parametrize("unsafe", [True, False])
def test_any_certificate_is_taken_only_when_that_is_asked_for(rehearse: Rehearse, *, unsafe: bool) -> None:
    release = rehearse(MATRIX["keda"], at("autoscaling.keda.managementApi.unsafeSsl", unsafe))

    assert {found.get("unsafeSsl") for found in triggers(release).values()} == {"true" if unsafe else None}


@pytest.mark.parametrize("values", ["keda", "hpa"])
def test_turning_a_scaler_on_leaves_the_pods_that_run(
    chart: helm.Chart, clusters: Mapping[str, str], values: str
) -> None:
    """A Deployment that no longer says how many it wants has one."""
    release = install(chart, merged(FIVE, MATRIX[values]), NAME, clusters["three pods"])

    assert release.deployment["spec"]["replicas"] == 3


def test_the_autoscaler_goes_by_cpu_unless_told_otherwise(rehearse: Rehearse) -> None:
    own = {
        "type": "External",
        "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}},
    }

    assert metric(rehearse(MATRIX["hpa"]))["resource"]["name"] == "cpu"
    assert metric(rehearse(MATRIX["hpa"], at("autoscaling.hpa.metrics", [own]))) == own


def metric(release: Release) -> dict[str, dict[str, str]]:
    (found,) = release.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert isinstance(found, dict)
    return found


def test_a_node_drain_takes_one_worker_and_the_unready_ones(rehearse: Rehearse) -> None:
    budget = rehearse().one("PodDisruptionBudget")["spec"]

    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_kubernetes_before_1_27_gets_no_unhealthy_pod_policy(rehearse: Rehearse) -> None:
    assert "unhealthyPodEvictionPolicy" not in rehearse(version="1.25").one("PodDisruptionBudget")["spec"]


def test_a_disruption_budget_may_count_pods_or_be_left_out(rehearse: Rehearse) -> None:
    (kept,) = rehearse(MATRIX["everything"]).all("PodDisruptionBudget")

    assert (kept["spec"]["minAvailable"], "maxUnavailable" in kept["spec"]) == ("50%", False)
    alone = rehearse(at("podDisruptionBudget.minAvailable", 1)).one("PodDisruptionBudget")["spec"]
    assert (alone["minAvailable"], "maxUnavailable" in alone) == (1, False)
    assert rehearse(at("podDisruptionBudget.enabled", value=False)).all("PodDisruptionBudget") == []
