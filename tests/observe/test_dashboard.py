"""The Grafana dashboard: well-formed, in step with the metrics, and a real Prometheus answers its queries."""

import asyncio
import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from devkit.run.prometheus import PrivatePrometheus
from tests.amqp import outside_channel
from tests.installation import PATIENCE, Site, bill
from tests.management import cluster, serving
from worker.observe.metrics import Metrics
from worker.simulator.faults import Fault, ResultCode

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "helm/files/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
ANNOTATIONS = [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
LABELS_OF_SCRAPES = {"job", "namespace", "pod", "instance", "le"}
LABELS_OF_KUBERNETES = {"container", "resource"}
COLUMNS = 24


def test_panels_lie_side_by_side_without_holes() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )
        assert cells.isdisjoint(taken), panel["title"]
        assert max(column for column, _ in cells) < COLUMNS
        taken |= cells
    bottom = max(row for _, row in taken) + 1
    assert taken == set(itertools.product(range(COLUMNS), range(bottom)))


def test_panels_can_be_told_apart_and_understood() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_dashboard_has_what_grafana_imports_it_by() -> None:
    assert DASHBOARD["uid"] == "ccfs-worker"
    assert DASHBOARD["schemaVersion"] >= 36
    assert {"datasource", "job", "namespace", "pod", "instance"} == VARIABLES


def test_the_dashboard_marks_alerts_restarts_and_versions() -> None:
    told = " ".join(ANNOTATIONS)

    assert 'ALERTS{alertname=~"CcfsWorker.*"' in told
    assert "process_start_time_seconds" in told
    assert "ccfs_worker_build_info" in told


def test_an_operators_first_figures_are_there() -> None:
    """What waits, what waits for somebody, what starts again and again, and what the pods may use."""
    told = " ".join(expression for _, expression in QUERIES)

    for queue in ("ccfs.jobs", "ccfs.dead", "ccfs.failed"):
        assert f'queue="{queue}"' in told
    assert "changes(process_start_time_seconds" in told
    assert 'kube_pod_container_resource_limits{namespace=~"$namespace", pod=~"$pod"' in told
    assert "process_max_fds" in told


@pytest.mark.parametrize("expression", [expression for _, expression in QUERIES if "rate(" in expression])
def test_a_line_that_falls_to_zero_has_no_hole(expression: str) -> None:
    """A filter on the shown value would cut it; one on the whole time shown only leaves out idle lines."""
    filtered, _, above = expression.rpartition(" > ")

    assert not filtered or (above == "0" and "$__range" in filtered.rpartition(" and ")[2])


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_a_query_asks_only_for_metrics_and_labels_that_exist(title: str, expression: str) -> None:
    known = {entry.name: set(entry.labels) for entry in Metrics("").catalogue}
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"ccfs_worker_\w+", expression)}
    assert names <= known.keys(), title
    assert names or "process_" in expression or "kube_pod_container_resource_" in expression
    labels = LABELS_OF_SCRAPES.union(*(known[name] for name in names))
    if "kube_" in expression:
        labels |= LABELS_OF_KUBERNETES
    assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", expression)) <= labels
    assert set(re.findall(r"\$(\w+)", expression)) <= VARIABLES | {"__rate_interval", "__range"}


def test_every_metric_has_its_place_on_the_dashboard() -> None:
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for _, expression in QUERIES
        for name in re.findall(r"ccfs_worker_\w+", expression)
    }
    assert {entry.name for entry in Metrics("").catalogue} == shown


async def test_prometheus_answers_every_query_from_a_real_run(site: Site) -> None:
    """A completed job, one that is tried again, a failed one and an unreadable one fill every panel."""
    answers: dict[str, Fault] = {
        bill(2): ResultCode(code="0300012"),
        bill(3): ResultCode(code="0300004"),
    }
    site.simulator.plan = lambda request: answers.pop(request.bill_file_name, None)
    members = {"name": site.names.jobs, "members": ["a", "b", "c"], "online": ["a", "b", "c"]}
    async with serving(cluster(members)) as place:
        await each_query_is_answered(site, f"http://user:password@{place}/")


async def each_query_is_answered(site: Site, management_url: str) -> None:
    with site.worker(AMQP__MANAGEMENT_URL=management_url) as worker:
        started = await worker.logged("worker.started")
        await worker.readiness()
        try:
            prometheus = PrivatePrometheus([f"127.0.0.1:{started['http_port']}"])
        except SystemExit as missing:
            pytest.skip(str(missing))
        with prometheus:
            # Rates see only what grows between two scrapes.
            await answered(prometheus, "ccfs_worker_build_info")
            await publish(site, bill(1), bill(2), bill(3))
            await site.publish_raw([("unreadable", b"nonsense")])
            await site.settled()
            for _, expression in QUERIES:
                if "kube_" not in expression:
                    # In so short a run some lines are 0 all the time, and left out for that.
                    await answered(prometheus, filled_in(expression.removesuffix(" > 0"), site))
            for expression in ANNOTATIONS:
                await asyncio.to_thread(prometheus.query, filled_in(expression, site))


def filled_in(expression: str, site: Site) -> str:
    for ours, name in (
        ("ccfs.jobs", site.names.jobs),
        ("ccfs.dead", site.names.dead),
        ("ccfs.failed", site.names.failed or ""),
    ):
        expression = expression.replace(f'="{ours}"', f'="{name}"')
    everything = re.sub(r"\$(job|namespace|pod|instance)", ".*", expression)
    return re.sub(r"\$__(rate_interval|range)", "5m", everything)


async def answered(prometheus: PrivatePrometheus, expression: str) -> None:
    """Ask until there is something; Prometheus gives no sign when it has scraped."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if await asyncio.to_thread(prometheus.query, expression):
                return
            await asyncio.sleep(0.2)


async def publish(site: Site, *files: str) -> None:
    async with outside_channel(site.own_url) as channel:
        for file in files:
            site.ledger.publish(file)
            message = aio_pika.Message(site.body(file), message_id=file, timestamp=datetime.now(UTC))
            await channel.default_exchange.publish(message, site.names.jobs)
