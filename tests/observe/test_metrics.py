"""What a scrape of the metrics shows."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas import ErrorCode
from worker.core.outcome import Ending
from worker.observe.gauges import Readings
from worker.observe.metrics import FAULTS, Metrics, powers_of_two
from worker.storage import Space


def scraped(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Read the text as Prometheus does: name and values of labels in order of their names, to value."""
    text = metrics.render().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_failures_are_there_with_0_before_the_first() -> None:
    """Else rate() would not see the first failure."""
    seen = scraped(Metrics("1.2.3"))
    for code in ErrorCode:
        assert seen["ccfs_worker_outcomes_total", code, "failed"] == 0
        assert seen["ccfs_worker_attempts_total", code] == 0
    assert seen["ccfs_worker_publish_failures_total", "unroutable"] == 0
    assert seen["ccfs_worker_dead_letters_total", "INVALID_JOB"] == 0


def test_every_code_is_somebodys_fault() -> None:
    """A code that the contract gains must be given one here, too."""
    assert set(FAULTS) == set(ErrorCode)


def test_a_completed_job() -> None:
    metrics = Metrics("1.2.3")
    metrics.answered(0.02)
    metrics.synced(0.003)
    metrics.downloaded(20480, 0.1)
    metrics.confirmed(0.004)
    metrics.job_ended(Ending.COMPLETED, "", 0.2, waited=30, age=31)

    seen = scraped(metrics)
    assert seen["ccfs_worker_outcomes_total", "OK", "completed"] == 1
    assert seen["ccfs_worker_attempts_total", "OK"] == 1
    assert seen[("ccfs_worker_downloaded_bytes_total",)] == 20480
    assert seen["ccfs_worker_job_duration_seconds_count", "completed"] == 1
    assert seen["ccfs_worker_job_duration_seconds_bucket", "completed", "0.125"] == 0
    assert seen["ccfs_worker_job_duration_seconds_bucket", "completed", "0.25"] == 1
    assert seen[("ccfs_worker_queue_wait_seconds_sum",)] == 30
    for name in ("answer_duration", "fsync_duration", "download_duration", "publish_confirm_duration"):
        assert seen[(f"ccfs_worker_{name}_seconds_count",)] == 1
        assert seen[f"ccfs_worker_{name}_seconds_bucket", "+Inf"] == 1


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("", "none"),
        (ErrorCode.FILE_NOT_FOUND, "caller"),
        (ErrorCode.UNKNOWN_APP, "caller"),
        (ErrorCode.TIMEOUT, "service"),
        (ErrorCode.DELIVERY_LIMIT, "service"),
    ],
)
def test_an_outcome_has_its_age_and_whose_fault_it_is(code: str, fault: str) -> None:
    metrics = Metrics("1.2.3")
    metrics.job_ended(Ending.FAILED if code else Ending.COMPLETED, code, 1, waited=None, age=900)

    seen = scraped(metrics)
    assert seen["ccfs_worker_outcome_age_seconds_bucket", fault, "512.0"] == 0
    assert seen["ccfs_worker_outcome_age_seconds_bucket", fault, "1024.0"] == 1
    others = {"none", "caller", "service"} - {fault}
    assert {seen["ccfs_worker_outcome_age_seconds_count", other] for other in others} == {0}


def test_a_retried_attempt_is_no_outcome() -> None:
    metrics = Metrics("1.2.3")
    metrics.retried(ErrorCode.TIMEOUT, 0.5)
    metrics.job_ended(Ending.RETRIED, ErrorCode.TIMEOUT, 1, waited=None, age=9)

    seen = scraped(metrics)
    assert seen["ccfs_worker_attempts_total", "TIMEOUT"] == 1
    assert seen["ccfs_worker_retries_total", "TIMEOUT", "500ms"] == 1
    assert seen["ccfs_worker_outcomes_total", "TIMEOUT", "failed"] == 0


@pytest.mark.parametrize("ending", [Ending.DEFERRED, Ending.GIVEN_BACK, Ending.LOST])
def test_a_delivery_that_was_not_tried_counts_as_no_attempt(ending: Ending) -> None:
    metrics = Metrics("1.2.3")
    metrics.job_ended(ending, "", 1, waited=5, age=6)

    seen = scraped(metrics)
    assert seen["ccfs_worker_job_duration_seconds_count", ending] == 1
    assert seen["ccfs_worker_attempts_total", "OK"] == 0
    assert seen[("ccfs_worker_queue_wait_seconds_count",)] == 0


def test_gauges_show_what_is_so_when_scraped() -> None:
    metrics, now = Metrics("1.2.3"), [Readings()]
    metrics.show(lambda: now[-1])
    assert math.isnan(scraped(metrics)[("ccfs_worker_storage_free_bytes",)])

    now.append(
        Readings(
            in_flight=3,
            paused={"storage": True, "upstream": False},
            checks={"broker": True},
            space=Space(free_bytes=5e9),
            queue_members={"ccfs.jobs": (3, 2)},
        )
    )

    seen = scraped(metrics)
    assert seen[("ccfs_worker_jobs_in_flight",)] == 3
    assert seen["ccfs_worker_intake_paused", "storage"] == 1
    assert seen["ccfs_worker_intake_paused", "upstream"] == 0
    assert seen["ccfs_worker_check_ok", "broker"] == 1
    assert seen[("ccfs_worker_storage_free_bytes",)] == 5e9
    assert seen["ccfs_worker_queue_members", "ccfs.jobs", "declared"] == 3
    assert seen["ccfs_worker_queue_members", "ccfs.jobs", "online"] == 2


def test_the_catalogue_names_what_is_scraped() -> None:
    """So does docs/metrics.md, which is made from it, and the tests of dashboard and alerts."""
    metrics = Metrics("1.2.3")
    metrics.retried("TIMEOUT", 10)
    metrics.show(
        lambda: Readings(
            paused={"storage": True},
            checks={"broker": True},
            queue_messages={"ccfs.jobs": 7},
            queue_members={"ccfs.jobs": (3, 2)},
        )
    )
    text = metrics.render().decode()
    for entry in metrics.catalogue:
        name = entry.name.removesuffix("_total") if entry.kind == "counter" else entry.name
        (family,) = (each for each in text_string_to_metric_families(text) if each.name == name)
        assert (family.type, family.documentation) == (entry.kind, entry.documentation)
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels - {"le"} == set(entry.labels)


def test_nothing_but_the_catalogue_is_scraped() -> None:
    """No `_created` series beside a counter, which prometheus_client makes unless it is told not to."""
    metrics = Metrics("1.2.3")
    metrics.show(Readings)
    families = text_string_to_metric_families(metrics.render().decode())
    names = {entry.name.removesuffix("_total") for entry in metrics.catalogue}
    assert {family.name for family in families if family.name.startswith("ccfs_worker")} == names


def test_powers_of_two_are_exact() -> None:
    assert powers_of_two(-2, 3) == (0.25, 0.5, 1, 2, 4, 8)
