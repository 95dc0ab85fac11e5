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
from worker.observe.metrics import Metrics
from worker.simulator.faults import Fault, ResultCode

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "helm/files/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
LABELS_OF_SCRAPES = {"job", "namespace", "instance", "le"}
COLUMNS = 24


def test_panels_lie_side_by_side() -> None:
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
    assert {"datasource", "job", "namespace", "instance"} == VARIABLES


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_a_query_asks_only_for_metrics_and_labels_that_exist(title: str, expression: str) -> None:
    known = {entry.name: set(entry.labels) for entry in Metrics("").catalogue}
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"ccfs_worker_\w+", expression)}
    assert names <= known.keys(), title
    assert names or "process_" in expression
    labels = LABELS_OF_SCRAPES.union(*(known[name] for name in names))
    assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", expression)) <= labels
    assert set(re.findall(r"\$(\w+)", expression)) <= VARIABLES | {"__rate_interval"}


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
    with site.worker() as worker:
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
                await answered(prometheus, filled_in(expression))


def filled_in(expression: str) -> str:
    return re.sub(r"\$(job|namespace|instance)", ".*", expression).replace("$__rate_interval", "5m")


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
