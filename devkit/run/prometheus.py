"""Run a private Prometheus, to test queries and to draw pictures from."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from devkit.run import programs
from devkit.run.leash import Leashed
from devkit.run.ports import free_ports

JOB = "ccfs-worker"
"""The scrape job's name, which the alert rules expect."""

_START_TIMEOUT = 60.0
_POLL = 0.05
_CONFIG = """\
global:
  scrape_interval: 1s
rule_files: {rules}
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: {targets}
"""


@dataclass(frozen=True)
class Series:
    """What a query found.

    Attributes:
        labels: Which series.
        points: (time in Unix seconds, value) in order.
    """

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class PrivatePrometheus:
    """Scrapes workers every second; started on entry and gone, with its data, on exit."""

    def __init__(self, targets: Sequence[str], *, rules: Sequence[Path] = ()) -> None:
        """Set it up; nothing runs yet.

        Args:
            targets: `host:port` of each worker.
            rules: Alert rules to evaluate.

        Raises:
            SystemExit: Prometheus is not there and cannot be installed.
        """
        self._program = programs.find("prometheus")
        (self._port,) = free_ports(1)
        self._config = _CONFIG.format(
            job=JOB, targets=json.dumps(list(targets)), rules=json.dumps([str(rule) for rule in rules])
        )

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="prometheus-")
        folder = Path(self._folder.name)
        (folder / "prometheus.yml").write_text(self._config)
        self._process = Leashed(
            [
                self._program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            env={},
            output=folder / "log",
        )
        self._await_ready(folder / "log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._folder.cleanup()

    def query(self, expression: str) -> list[Series]:
        """Evaluate now. Raises ValueError with Prometheus's words when it refuses the expression."""
        found = self._get("query", query=expression)
        return [Series(each["metric"], [_point(each["value"])]) for each in found]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate at each step of a span of time, in Unix seconds."""
        found = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [Series(each["metric"], [_point(point) for point in each["values"]]) for each in found]

    def _get(self, what: str, **parameters: object) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urlencode(parameters)}"
        try:
            with urlopen(url, timeout=30) as response:
                answer = json.load(response)
        except URLError as error:
            raise ValueError(f"{parameters['query']}: {error}") from error
        results: list[dict[str, Any]] = answer["data"]["result"]
        return results

    def _await_ready(self, log: Path) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and self._process.running:
            try:
                urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5).close()
            except (URLError, OSError):
                time.sleep(_POLL)
            else:
                return
        self._process.kill()
        raise RuntimeError(f"Prometheus did not start; its log:\n{log.read_text()}")


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
