"""Write the documents that are made from the code: `python -m devkit.generate.docs`."""

from collections.abc import Callable, Iterable, Mapping

from devkit import ROOT
from devkit.generate import dashboard, rooms
from schemas import ErrorCode
from worker.cli import inventory
from worker.core.outcome import Ending
from worker.observe.gauges import Entry
from worker.observe.metrics import (
    CALLER,
    COMPLETED,
    FAILED,
    FAULTS,
    NOBODY,
    OK,
    SERVICE,
    Metrics,
)
from worker.simulator.fault_specs import Explained, explain

_METRICS = """\
# Metrics

`GET /metrics` on `WORKER_HTTP__PORT`, in Prometheus's text format. Counters of failures are there from the
start with 0, so that `rate()` sees the first one. No label holds an account, a file or a job: those are in
the log, under the job's id. The bounds of histograms are powers of two, which native histograms have too.

[`helm/files/alerts.yaml`](../helm/files/alerts.yaml) holds alert rules over these metrics,
[`helm/files/dashboard.json`](../helm/files/dashboard.json) a Grafana dashboard; [the runbook](runbook.md)
says what to do about each alert.

<!-- `make generate` makes this page from worker/observe/metrics.py and devkit/generate/docs.py. -->

{metrics}

Beside these there are prometheus_client's `process_*` (CPU, memory, open files, start time) and
`python_gc_*`.

## Labels

{labels}
"""

_SIMULATOR = """\
# The CC-FS simulator

`ccfs-worker simulate` is a CC-FS for users who have no call centre at hand. It checks signatures as CC-FS
does (auth-v2, byte for byte, with a tolerance of 15 minutes), serves zips that hold plausible
`…_call_1.csv` and `…_record_1.csv`, from 32 KiB on two of each, and fails when asked to.
It is no part of a production installation: over TLS it needs `pip install 'ccfs-worker[simulator]'`. The
container image has that.

<!-- `make generate` makes this page from worker/simulator/faults.py and devkit/generate/docs.py. -->

## Trying the worker with it

```text
$ ccfs-worker simulate
CC-FS simulator at https://127.0.0.1:8443 (Ctrl-C ends it)

WORKER_CCFS__BASE_URL=https://127.0.0.1:8443
WORKER_CREDENTIALS__DIR=/home/me/.config/ccfs-simulator/keys
WORKER_CCFS__CA_FILE=/home/me/.config/ccfs-simulator/ca.pem

(also in /home/me/.config/ccfs-simulator/simulator.env)
```

It made a certificate, and keys for the accounts `app1` and `app2`; both are kept for the next start. In
another terminal, with a broker on this machine:

```text
$ set -a; . ~/.config/ccfs-simulator/simulator.env; set +a
$ mkdir files; WORKER_STORAGE__ROOT=files ccfs-worker run
```

Any file of these accounts exists. The same account, name, size and seed give the same bytes every time, given
the same version of zlib. `ccfs-worker simulate --help` lists the options: sizes up to gigabytes, which cost
no memory, latency, bandwidth, files that do not exist, an account's limit of concurrent downloads, another
key directory.

## Faults

`--fault KIND:RATE`, as often as needed; the rates are parts of all answers and add up to 1 at most. Options
follow the kind: `--fault reset-body,at=0.9:0.01`, `--fault http-503,retry-after=5:0.05`. Which request
a fault hits depends on nothing but the seed, the account, the file, and how often that file was asked for:
two runs see the same.

{faults}

`RESULTCODE` is any of the vendor's result codes (`0300008`) or another number, `http-STATUS` any status
(`http-502`).

## In tests

```python fragment
from worker.simulator import Range, SimulatorOptions, faults, open_simulator

async with open_simulator(SimulatorOptions(keys=keys, sizes=(Range(64 * 1024),))) as simulator:
    hold = faults.HeldAnswer()
    simulator.plan = lambda request: hold if request.count == 1 else None
    ...  # a worker with simulator.url and simulator.ca_file
    await hold.reached.wait()  # half of the first answer's body is sent
    hold.release.set()
    assert [request.answer for request in simulator.requests] == ["hold", "file"]
    simulator.digest("app1", "20260131_1.zip")
```

`plan` is called for every request that is in order, and decides what is wrong with its answer. `stop()`
cuts all connections and refuses new ones; `start()` listens on the same port again.
"""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_LABELS: Mapping[str, str] = {
    "check": "a check of `/readyz`: `broker` (a session is open), `intake` (new jobs are taken), "
    "`results` (the broker takes our messages), `ccfs` (CC-FS has not answered nothing but 403 so far)",
    "code": f"`{OK}`, or an error code of the contract: {_listed(ErrorCode)}",
    "ending": f"how a delivery ended: {_listed(Ending)}",
    "fault": f"whose fault an outcome is: `{NOBODY}` (completed), `{CALLER}` "
    f"({_listed(sorted(code for code in FAULTS if FAULTS[code] == CALLER))}), `{SERVICE}` (any other code)",
    "python": "the interpreter's version",
    "reason": "why intake is paused: `storage` (full, missing or silent), `keys` (their directory is "
    "silent), `upstream` (CC-FS is silent), `flow_control` (CC-FS asked to stay away), `descriptors` (there "
    "are none left), `draining`; or why a message was not taken: "
    "`unroutable` (no queue is bound for it), `unconfirmed` (refused; "
    "one that is only slow to be confirmed is not counted)",
    "state": "of members of a queue: `declared` (all), `online` (those on a node that runs)",
    "status": f"of the outcome: {_listed((COMPLETED, FAILED))}",
    "queue": "a queue's name: `ccfs.jobs`, those of waiting, parked and failed jobs",
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


def simulator_page() -> str:
    """The manual of the simulator, with its faults."""
    return _SIMULATOR.format(
        faults=_table(("kind", "options and their defaults", "what happens"), map(_fault_row, explain()))
    )


def architecture_page() -> str:
    """The page on the architecture, with its section on rooms made from the import contracts."""
    return rooms.with_section((ROOT / "docs/architecture.md").read_text())


PAGES: Mapping[str, Callable[[], str]] = {
    "docs/architecture.md": architecture_page,
    "docs/metrics.md": metrics_page,
    "docs/settings.md": inventory.markdown,
    "docs/simulator.md": simulator_page,
    "helm/files/dashboard.json": dashboard.rendered,
}
"""What is made, by path in the repository."""


def main() -> None:
    """Write every page."""
    for path, page in PAGES.items():
        (ROOT / path).write_text(page())


def _row(entry: Entry) -> tuple[str, ...]:
    return f"`{entry.name}`", entry.kind, _listed(entry.labels), entry.documentation


def _fault_row(kind: Explained) -> tuple[str, ...]:
    options = (f"{name}={default}" if default else name for name, default in kind.options.items())
    return f"`{kind.name}`", _listed(options), kind.meaning


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    main()
