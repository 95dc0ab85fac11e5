"""Generate the Grafana dashboard with Grafana's own SDK: `make generate` writes it to the chart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

_WORKERS = 'job=~"$job", namespace=~"$namespace", instance=~"$instance"'
_SOURCE = model.DataSourceRef(type_val="prometheus", uid="$datasource")
_PER_SECOND = "suffix: /s"
_COMPLETED, _FAILED, _NOT_OK = 'status="completed"', 'status="failed"', 'code!="OK"'
_IN_TIME, _OUR_FAULT = 'le="1024.0"', 'fault="service"'
_TALL, _FLAT = 8, 4
_BAD_SHARE = 0.05
"""The share of failed jobs that is too much, as in the alert CcfsWorkerFailures."""


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
        .editable()
    )
    for variable in _variables():
        made.with_variable(variable)
    for title, panels in (
        ("Now", _now()),
        ("Jobs", _jobs()),
        ("Where the time goes", _times()),
        ("Throughput", _throughput()),
        ("Surroundings", _surroundings()),
    ):
        made.with_row(board.Row(title))
        for panel in panels:
            made.with_panel(panel)
    return _numbered(made.build())


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
        ("instance", "Worker", '{job=~"$job", namespace=~"$namespace"}'),
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


def _now() -> Iterator[Builder[model.Panel]]:
    yield _figure(
        "Workers",
        "Workers that answer, by version.",
        "none",
        Query(f"count by (version) (ccfs_worker_build_info{{{_WORKERS}}})", "{{version}}"),
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
        "Paused",
        "Workers whose intake is paused, for whatever reason.",
        "none",
        Query(f"sum(max by (instance) (ccfs_worker_intake_paused{{{_WORKERS}}}))", "workers"),
        bad_from=1,
    )
    yield _figure(
        "Free storage",
        "Free bytes on the fullest volume.",
        "bytes",
        Query(f"min(ccfs_worker_storage_free_bytes{{{_WORKERS}}})", "free"),
    )


def _jobs() -> Iterator[Builder[model.Panel]]:
    yield _lines(
        "Objective",
        "Of the outcomes, those later than 1,024 s after their job's publication, and those that failed "
        "for a reason that is not the caller's.",
        "percentunit",
        Query(
            f"1 - sum({_rate('outcome_age_seconds_bucket', _IN_TIME)}) "
            f"/ sum({_rate('outcome_age_seconds_count')})",
            "late",
        ),
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
        Query(f"sum by (code) ({_rate('outcomes_total', _FAILED)}) > 0", "{{code}}"),
        stacked=True,
    )
    yield _lines(
        "Attempts that failed",
        "By code, those that are tried again included.",
        _PER_SECOND,
        Query(f"sum by (code) ({_rate('attempts_total', _NOT_OK)}) > 0", "{{code}}"),
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
        Query(f"sum by (ending) ({_rate('job_duration_seconds_count')}) > 0", "{{ending}}"),
    )
    yield _lines(
        "Dead letters",
        "Messages parked within the last hour, by code; and failed jobs that no queue kept.",
        "none",
        Query(f"sum by (code) (increase(ccfs_worker_dead_letters_total{{{_WORKERS}}}[1h]))", "{{code}}"),
        Query(f"sum(increase(ccfs_worker_failures_not_kept_total{{{_WORKERS}}}[1h]))", "failed, not kept"),
    )
    yield _lines(
        "Held accounts",
        "Accounts whose key is refused or gone, for how many hours, and their jobs that wait.",
        "none",
        Query(f"max(ccfs_worker_accounts_held{{{_WORKERS}}})", "accounts"),
        Query(f"max(ccfs_worker_accounts_held_seconds{{{_WORKERS}}}) / 3600", "hours"),
        Query(f"sum(ccfs_worker_jobs_held{{{_WORKERS}}})", "jobs"),
    )


def _times() -> Iterator[Builder[model.Panel]]:
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


def _throughput() -> Iterator[Builder[model.Panel]]:
    yield _lines(
        "Downloaded",
        "Bytes stored per second, by worker.",
        "binBps",
        Query(f"sum by (instance) ({_rate('downloaded_bytes_total')})", "{{instance}}"),
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
        "Cores used, by worker.",
        "none",
        Query(f"rate(process_cpu_seconds_total{{{_WORKERS}}}[$__rate_interval])", "{{instance}}"),
    )
    yield _lines(
        "Memory",
        "Resident memory, by worker.",
        "bytes",
        Query(f"process_resident_memory_bytes{{{_WORKERS}}}", "{{instance}}"),
    )


def _surroundings() -> Iterator[Builder[model.Panel]]:
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
        "Waiting in RabbitMQ",
        "Messages ready, by queue.",
        "none",
        Query(f"max by (queue) (ccfs_worker_queue_messages{{{_WORKERS}}}) > 0", "{{queue}}"),
    )
    yield _lines(
        "Oldest job in hand",
        "For how long, by worker.",
        "s",
        Query(f"max by (instance) (ccfs_worker_oldest_job_seconds{{{_WORKERS}}})", "{{instance}}"),
    )
    yield _lines(
        "Sessions with RabbitMQ",
        "Opened within the last hour, by worker; each after the first is a reconnect.",
        "none",
        Query(f"increase(ccfs_worker_broker_sessions_total{{{_WORKERS}}}[1h])", "{{instance}}"),
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


def _rate(name: str, labels: str = "") -> str:
    selector = ", ".join(part for part in (_WORKERS, labels) if part)
    return f"rate(ccfs_worker_{name}{{{selector}}}[$__rate_interval])"


def _figure(
    title: str, description: str, unit: str, query: Query, *, bad_from: float | None = None
) -> stat.Panel:
    steps = [model.Threshold(value=None, color="green" if bad_from else "text")]
    if bad_from is not None:
        steps.append(model.Threshold(value=bad_from, color="red"))
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .span(4)
        .height(_FLAT)
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(board.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .targets(_targets([query]))
    )


def _lines(
    title: str, description: str, unit: str, *queries: Query, stacked: bool = False
) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .min(0)
        .span(8)
        .height(_TALL)
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
        .targets(_targets(queries))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    return panel


def _targets(queries: Sequence[Query]) -> list[Builder[variants.Dataquery]]:
    return [
        prometheus.Dataquery()
        .expr(query.expression)
        .legend_format(query.legend)
        .ref_id(chr(ord("A") + number))
        .range()
        for number, query in enumerate(queries)
    ]
