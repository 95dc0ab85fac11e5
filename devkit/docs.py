"""Writes the documents that are made from the code: `python -m devkit.docs`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from schemas import ErrorCode
from worker.families import Entry
from worker.intake import Ending
from worker.metrics import COMPLETED, FAILED, OK, Metrics

ROOT = Path(__file__).resolve().parent.parent

_METRICS = """\
# Metrics

`GET /metrics` on `WORKER_HTTP__PORT`, in Prometheus's text format. Counters of failures are there from the
start with 0, so that `rate()` sees the first one. No label holds an account, a file or a job: those are in
the log, under the job's id. The bounds of histograms are powers of two, which native histograms have too.

[`helm/files/alerts.yaml`](../helm/files/alerts.yaml) holds alert rules over these metrics,
[`helm/files/dashboard.json`](../helm/files/dashboard.json) a Grafana dashboard; [the runbook](runbook.md)
says what to do about each alert.

<!-- `make docs` makes this page from worker/metrics.py and devkit/docs.py. -->

{metrics}

Beside these there are prometheus_client's `process_*` (CPU, memory, open files, start time) and
`python_gc_*`.

## Labels

{labels}
"""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_LABELS: Mapping[str, str] = {
    "check": "a check of `/readyz`: `broker` (a session is open), `intake` (new jobs are taken), "
    "`results` (the broker takes our messages)",
    "code": f"`{OK}`, or an error code of the contract: {_listed(ErrorCode)}",
    "ending": f"how a delivery ended: {_listed(Ending)}",
    "python": "the interpreter's version",
    "reason": "why intake is paused: `storage` (full or missing), `upstream` (CC-FS is silent), "
    "`flow_control` (CC-FS asked to stay away), `draining`; or why a message was not taken: "
    "`unroutable` (no queue is bound for it), `unconfirmed` (refused, or no confirm in time)",
    "status": f"of the outcome: {_listed((COMPLETED, FAILED))}",
    "tier": "how long the job waits, as in the name of its queue: `10s`",
    "version": "the worker's version",
}


def metrics_page() -> str:
    """The reference of the metrics."""
    catalogue = Metrics("").catalogue
    labels = sorted({label for entry in catalogue for label in entry.labels})
    return _METRICS.format(
        metrics=_table(("metric", "type", "labels", "meaning"), map(_row, catalogue)),
        labels=_table(("label", "values"), ((f"`{label}`", _LABELS[label]) for label in labels)),
    )


PAGES: Mapping[str, Callable[[], str]] = {"docs/metrics.md": metrics_page}
"""What is made, by path in the repository."""


def main() -> None:
    """Writes every page."""
    for path, page in PAGES.items():
        (ROOT / path).write_text(page())


def _row(entry: Entry) -> tuple[str, ...]:
    return f"`{entry.name}`", entry.kind, _listed(entry.labels), entry.documentation


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    main()
