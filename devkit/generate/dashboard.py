"""Generate the Grafana dashboard with Grafana's own SDK: `make generate` writes it to the chart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

_WORKERS = 'job=~"$job", namespace=~"$namespace", pod=~"$pod", instance=~"$instance"'
_CONTAINERS = 'namespace=~"$namespace", pod=~"$pod", container="worker"'
_JOBS, _DEAD, _KEPT = 'queue="ccfs.jobs"', 'queue="ccfs.dead"', 'queue="ccfs.failed"'
_OTHERS = 'queue!="ccfs.dead", queue!="ccfs.failed"'
_SOURCE = model.DataSourceRef(type_val="prometheus", uid="$datasource")
_PER_SECOND = "suffix: /s"
_COMPLETED, _FAILED, _NOT_OK = 'status="completed"', 'status="failed"', 'code!="OK"'
_IN_TIME, _OUR_FAULT = 'le="1024.0"', 'fault="service"'
_WHO = "{{pod}} {{instance}}"
"""A worker, where Prometheus knows its pod and where not."""

_COLUMNS = 24
_BAD_SHARE, _LATE_SHARE, _RESTARTS = 0.05, 0.01, 4
"""What is too much, as in CcfsWorkerFailures, CcfsWorkerObjectiveMissed and CcfsWorkerRestarting."""

_Panel = TypeVar("_Panel", stat.Panel, timeseries.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one bundle of lines, of a panel.

    Attributes:
        expression: PromQL.
        legend: What each line is called; `{{label}}` stands for a label's value.
    """

    expression: str
    legend: str


def rendered() -> str:
    """The dashboard as Grafana imports it."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard()) + "\n"


def dashboard() -> model.Dashboard:
    """Rows of panels, from the question "is all well?" to "where does the time go?"."""
    made = (
        board.Dashboard("ccfs-worker")
        .uid("ccfs-worker")
        .description("Call records from CC-FS to shared storage: jobs, failures, times and surroundings.")
        .tags(["ccfs-worker", "rabbitmq"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .annotations([*_annotations()])
        .editable()
    )
    for variable in _variables():
        made.with_variable(variable)
    _add_row(made, "Now", [*_now()], columns=6, height=4)
    _add_row(made, "Jobs", [*_jobs()])
    _add_row(made, "Queues", [*_queues()], columns=2)
    _add_row(made, "Where the time goes", [*_times()])
    _add_row(made, "Throughput and what it takes", [*_throughput()])
    _add_row(made, "Surroundings", [*_surroundings()])
    return _numbered(made.build())


def _add_row(
    made: board.Dashboard, title: str, panels: Sequence[_Panel], *, columns: int = 3, height: int = 8
) -> None:
    """Add panels side by side; those of the last line share its width, so that there is no hole."""
    made.with_row(board.Row(title))
    for number, panel in enumerate(panels):
        in_line = min(columns, len(panels) - number // columns * columns)
        made.with_panel(panel.span(_COLUMNS // in_line).height(height))


def _annotations() -> Iterator[board.AnnotationQuery]:
    for name, color, expression in (
        ("Alerts", "red", 'ALERTS{alertname=~"CcfsWorker.*", alertstate="firing"}'),
        ("Restarts", "orange", f"changes(process_start_time_seconds{{{_WORKERS}}}[2m]) > 0"),
        ("New version", "blue", f"{_versions()} unless {_versions(' offset 5m')}"),
    ):
        yield (
            board.AnnotationQuery()
            .name(name)
            .datasource(_SOURCE)
            .enable(True)
            .icon_color(color)
            .expr(expression)
        )


def _versions(when: str = "") -> str:
    return f"count by (version) (ccfs_worker_build_info{{{_WORKERS}}}{when})"


def _numbered(made: model.Dashboard) -> model.Dashboard:
    """Number the panels: Grafana's links lead to a panel by its id."""
    for number, panel in enumerate(made.panels or [], start=1):
        panel.id_val = number
    return made


def _variables() -> Iterator[Builder[model.VariableModel]]:
    yield board.DatasourceVariable("datasource").label("Data source").type("prometheus")
    for name, label, others in (
        ("job", "Job", ""),
        ("namespace", "Namespace", '{job=~"$job"}'),
        ("pod", "Pod", '{job=~"$job", namespace=~"$namespace"}'),
        ("instance", "Worker", '{job=~"$job", namespace=~"$namespace", pod=~"$pod"}'),
    ):
        yield (
            board.QueryVariable(name)
            .label(label)
            .datasource(_SOURCE)
            .query(f"label_values(ccfs_worker_build_info{others}, {name})")
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            # Includes series without that label, as where Prometheus scrapes without Kubernetes.
            .all_value(".*")
            .current(model.VariableOption(text="All", value="$__all", selected=True))
        )


def _now() -> Iterator[stat.Panel]:
    yield _figure(
        "Workers",
        "Workers that answer, by version.",
        "none",
        Query(_versions(), "{{version}}"),
    )
    yield _figure(
        "Waiting",
        "Jobs ready in RabbitMQ that no worker has in hand.",
        "none",
        Query(_depth(_JOBS), "jobs"),
    )
    yield _figure(
        "In flight",
        "Jobs in hand.",
        "none",
        Query(f"sum(ccfs_worker_jobs_in_flight{{{_WORKERS}}})", "jobs"),
    )
    yield _figure(
        "Completed",
        "Jobs completed per second.",
        _PER_SECOND,
        Query(f"sum({_rate('outcomes_total', _COMPLETED)})", "jobs"),
    )
    yield _figure(
        "Failed",
        "Share of the jobs that failed for good.",
        "percentunit",
        Query(f"sum({_rate('outcomes_total', _FAILED)}) / sum({_rate('outcomes_total')})", "share"),
        bad_from=_BAD_SHARE,
    )
    yield _figure(
        "Late",
        "Share of the outcomes that came later after their job's publication than the objective says.",
        "percentunit",
        Query(_late(), "share"),
        bad_from=_LATE_SHARE,
    )
    yield _figure(
        "Paused",
        "Workers whose intake is paused, for whatever reason.",
        "none",
        Query(f"sum(max by (pod, instance) (ccfs_worker_intake_paused{{{_WORKERS}}}))", "workers"),
        bad_from=1,
    )
    yield _figure(
        "Restarts",
        "Starts of the same worker within the last half hour.",
        "none",
        Query(f"sum(changes(process_start_time_seconds{{{_WORKERS}}}[30m]))", "restarts"),
        bad_from=_RESTARTS,
    )
    yield _figure(
        "Parked",
        "Messages among the dead letters, until somebody replays or discards them.",
        "none",
        Query(_depth(_DEAD), "messages"),
        bad_from=1,
    )
    yield _figure(
        "Failed jobs kept",
        "Failed jobs that can be listed and tried again.",
        "none",
        Query(_depth(_KEPT), "jobs"),
    )
    yield _figure(
        "Free storage",
        "Free bytes on the fullest volume.",
        "bytes",
        Query(f"min(ccfs_worker_storage_free_bytes{{{_WORKERS}}})", "free"),
    )
    yield _figure(
        "Held",
        "Jobs that wait for the key of their account.",
        "none",
        Query(f"sum(ccfs_worker_jobs_held{{{_WORKERS}}})", "jobs"),
        bad_from=1,
    )


def _jobs() -> Iterator[timeseries.Panel]:
    yield _lines(
        "Objective",
        "Of the outcomes, those later after their job's publication than the objective says, and those that "
        "failed for a reason that is not the caller's.",
        "percentunit",
        Query(_late(), "late"),
        Query(
            f"sum({_rate('outcome_age_seconds_count', _OUR_FAULT)}) "
            f"/ sum({_rate('outcome_age_seconds_count')})",
            "failed",
        ),
    )
    yield _lines(
        "Outcomes",
        "Outcome events published, per second.",
        _PER_SECOND,
        Query(f"sum by (status) ({_rate('outcomes_total')})", "{{status}}"),
    )
    yield _lines(
        "Failures by code",
        "Jobs that failed for good, per second.",
        _PER_SECOND,
        Query(_occurring("code", "outcomes_total", _FAILED), "{{code}}"),
        stacked=True,
    )
    yield _lines(
        "Attempts that failed",
        "By code, those that are tried again included.",
        _PER_SECOND,
        Query(_occurring("code", "attempts_total", _NOT_OK), "{{code}}"),
        stacked=True,
    )
    yield _lines(
        "Retries by wait",
        "Jobs sent to wait in RabbitMQ for their next attempt, per second.",
        _PER_SECOND,
        Query(f"sum by (tier) ({_rate('retries_total')})", "{{tier}}"),
        stacked=True,
    )
    yield _lines(
        "Deliveries by ending",
        "How deliveries ended, per second; deferred ones go back uncounted, lost ones come again.",
        _PER_SECOND,
        Query(_occurring("ending", "job_duration_seconds_count"), "{{ending}}"),
    )


def _queues() -> Iterator[timeseries.Panel]:
    depth = f"ccfs_worker_queue_messages{{{_WORKERS}, {_OTHERS}}}"
    yield _lines(
        "Waiting in RabbitMQ",
        "Messages ready of jobs and outcomes, by queue.",
        "none",
        Query(
            f"max by (queue) ({depth}) and max by (queue) (max_over_time({depth}[$__range])) > 0", "{{queue}}"
        ),
        stacked=True,
    )
    yield _lines(
        "Parked messages and failed jobs",
        "Messages that wait for an operator.",
        "none",
        Query(_depth(_DEAD), "parked"),
        Query(_depth(_KEPT), "failed jobs"),
    )
    yield _lines(
        "Newly parked",
        "Messages parked within the last hour, by code; and failed jobs that no queue kept.",
        "none",
        Query(f"sum by (code) (increase(ccfs_worker_dead_letters_total{{{_WORKERS}}}[1h]))", "{{code}}"),
        Query(f"sum(increase(ccfs_worker_failures_not_kept_total{{{_WORKERS}}}[1h]))", "failed, not kept"),
    )
    yield _lines(
        "Oldest job in hand",
        "For how long, by worker.",
        "s",
        Query(f"max by (pod, instance) (ccfs_worker_oldest_job_seconds{{{_WORKERS}}})", _WHO),
    )


def _times() -> Iterator[timeseries.Panel]:
    for title, description, name, labels in (
        ("Job", "From delivery to settlement, of completed jobs.", "job_duration", 'ending="completed"'),
        ("Queue wait", "From a job's timestamp to its first delivery.", "queue_wait", ""),
        ("Download", "From the request to the durable file.", "download_duration", ""),
        ("CC-FS's answer", "From the request to the first bytes of the file.", "answer_duration", ""),
        ("fsync", "How long the storage takes to make a file durable.", "fsync_duration", ""),
        ("Publish confirm", "How long RabbitMQ takes to confirm.", "publish_confirm_duration", ""),
    ):
        buckets = _rate(f"{name}_seconds_bucket", labels)
        yield _lines(
            title,
            f"{description} Half of them, and 95% and 99%, took no longer.",
            "s",
            *(
                Query(f"histogram_quantile({quantile}, sum by (le) ({buckets}))", f"{quantile:.0%}")
                for quantile in (0.5, 0.95, 0.99)
            ),
        )


def _throughput() -> Iterator[timeseries.Panel]:
    yield _lines(
        "Downloaded",
        "Bytes stored per second, by worker.",
        "binBps",
        Query(f"sum by (pod, instance) ({_rate('downloaded_bytes_total')})", _WHO),
        stacked=True,
    )
    yield _lines(
        "Concurrency",
        "Jobs in hand and downloads, against the limit, which shrinks when CC-FS asks to slow down.",
        "none",
        Query(f"sum(ccfs_worker_jobs_in_flight{{{_WORKERS}}})", "jobs in hand"),
        Query(f"sum(ccfs_worker_downloads_in_flight{{{_WORKERS}}})", "downloads"),
        Query(f"sum(ccfs_worker_concurrency_limit{{{_WORKERS}}})", "limit"),
    )
    yield _lines(
        "CPU",
        "Cores used, by worker, and what a pod asks for and may use, where kube-state-metrics says so.",
        "none",
        Query(f"rate(process_cpu_seconds_total{{{_WORKERS}}}[$__rate_interval])", _WHO),
        *_bounds("cpu"),
    )
    yield _lines(
        "Memory",
        "Resident memory, by worker, and what a pod asks for and may use, where kube-state-metrics says so.",
        "bytes",
        Query(f"process_resident_memory_bytes{{{_WORKERS}}}", _WHO),
        *_bounds("memory"),
    )
    yield _lines(
        "Open files",
        "File descriptors open, by worker, and the fewest that one may open; intake pauses before that.",
        "none",
        Query(f"process_open_fds{{{_WORKERS}}}", _WHO),
        Query(f"min(process_max_fds{{{_WORKERS}}})", "limit"),
    )
    yield _lines(
        "Up since",
        "For how long each worker has run; a fall is a restart.",
        "s",
        Query(f"time() - process_start_time_seconds{{{_WORKERS}}}", _WHO),
    )


def _bounds(resource: str) -> Iterator[Query]:
    for kind, legend in (("requests", "requested"), ("limits", "limit")):
        metric = f"kube_pod_container_resource_{kind}"
        yield Query(f'max({metric}{{{_CONTAINERS}, resource="{resource}"}})', legend)


def _surroundings() -> Iterator[timeseries.Panel]:
    yield _lines(
        "Checks that fail",
        "Workers whose check of /readyz fails, by check.",
        "none",
        Query(f"sum by (check) (1 - ccfs_worker_check_ok{{{_WORKERS}}})", "{{check}}"),
    )
    yield _lines(
        "Intake paused",
        "Workers that take no jobs, by reason.",
        "none",
        Query(f"sum by (reason) (ccfs_worker_intake_paused{{{_WORKERS}}})", "{{reason}}"),
    )
    yield _lines(
        "Members of queues",
        "Of each queue, how many members run; only with WORKER_AMQP__MANAGEMENT_URL.",
        "none",
        Query(f'max by (queue) (ccfs_worker_queue_members{{{_WORKERS}, state="online"}})', "{{queue}}"),
    )
    yield _lines(
        "Sessions with RabbitMQ",
        "Opened within the last hour, by worker; each after the first is a reconnect.",
        "none",
        Query(f"increase(ccfs_worker_broker_sessions_total{{{_WORKERS}}}[1h])", _WHO),
    )
    yield _lines(
        "Messages that RabbitMQ did not take",
        "Per second, by reason; each is published again until it does.",
        _PER_SECOND,
        Query(f"sum by (reason) ({_rate('publish_failures_total')})", "{{reason}}"),
    )
    yield _lines(
        "Free storage over time",
        "Below what is reserved, intake pauses.",
        "bytes",
        Query(f"min(ccfs_worker_storage_free_bytes{{{_WORKERS}}})", "free"),
        Query(f"max(ccfs_worker_storage_reserved_bytes{{{_WORKERS}}})", "reserved"),
        Query(f"max(ccfs_worker_storage_size_bytes{{{_WORKERS}}})", "size"),
    )
    yield _lines(
        "Free inodes",
        "Part of the files and directories that the volume can hold; nothing where there is no limit.",
        "percentunit",
        Query(
            f"min(ccfs_worker_storage_free_inodes{{{_WORKERS}}} / ccfs_worker_storage_inodes{{{_WORKERS}}})",
            "free",
        ),
    )
    yield _lines(
        "CC-FS's certificate",
        "How long it is still valid.",
        "s",
        Query(f"min(ccfs_worker_ccfs_certificate_end_seconds{{{_WORKERS}}}) - time()", "left"),
    )
    yield _lines(
        "Storage that does not answer",
        "Seconds of the longest wait for the volume, and threads that hold a call whose job was given up.",
        "none",
        Query(f"max(ccfs_worker_storage_silent_seconds{{{_WORKERS}}})", "seconds"),
        Query(f"sum(ccfs_worker_storage_threads_left_behind{{{_WORKERS}}})", "threads"),
    )
    yield _lines(
        "Held accounts",
        "Accounts whose key is refused or gone, for how many hours, and their jobs that wait.",
        "none",
        Query(f"max(ccfs_worker_accounts_held{{{_WORKERS}}})", "accounts"),
        Query(f"max(ccfs_worker_accounts_held_seconds{{{_WORKERS}}}) / 3600", "hours"),
        Query(f"sum(ccfs_worker_jobs_held{{{_WORKERS}}})", "jobs"),
    )


def _rate(name: str, labels: str = "", interval: str = "$__rate_interval") -> str:
    selector = ", ".join(part for part in (_WORKERS, labels) if part)
    return f"rate(ccfs_worker_{name}{{{selector}}}[{interval}])"


def _occurring(label: str, name: str, labels: str = "") -> str:
    """Rates by a label, without those that are 0 all the time; a line that falls to 0 has no hole."""
    by = f"sum by ({label})"
    return f"{by} ({_rate(name, labels)}) and {by} ({_rate(name, labels, '$__range')}) > 0"


def _depth(queue: str) -> str:
    # Every worker reports the same.
    return f"max(ccfs_worker_queue_messages{{{_WORKERS}, {queue}}})"


def _late() -> str:
    in_time, all_of_them = _rate("outcome_age_seconds_bucket", _IN_TIME), _rate("outcome_age_seconds_count")
    return f"1 - sum({in_time}) / sum({all_of_them})"


def _figure(
    title: str, description: str, unit: str, query: Query, *, bad_from: float | None = None
) -> stat.Panel:
    steps = [model.Threshold(value=None, color="green" if bad_from else "text")]
    if bad_from is not None:
        steps.append(model.Threshold(value=bad_from, color="red"))
    return (
        _panel(stat.Panel(), title, description, unit, [query])
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(board.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    )


def _lines(
    title: str, description: str, unit: str, *queries: Query, stacked: bool = False
) -> timeseries.Panel:
    panel = (
        _panel(timeseries.Panel(), title, description, unit, queries)
        .min(0)
        .line_width(1)
        .fill_opacity(25 if stacked else 5)
        .show_points(looks.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    return panel


def _panel(panel: _Panel, title: str, description: str, unit: str, queries: Sequence[Query]) -> _Panel:
    """Give a panel of any kind what all have."""
    return (
        panel.title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .targets(
            [
                prometheus.Dataquery()
                .expr(query.expression)
                .legend_format(query.legend)
                .ref_id(chr(ord("A") + number))
                .range()
                for number, query in enumerate(queries)
            ]
        )
    )
