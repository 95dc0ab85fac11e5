"""Run the tests that need RabbitMQ on several versions of it: `python -m devkit.run.versions`.

`RABBITMQ` may name other Debian suites than those below; all arguments are pytest's.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from xml.etree import ElementTree as ET

from devkit.run import debian, server

SUITES = ("bookworm", "trixie", "sid")
_TESTS = ("-m", "broker and not whole and not image")
_REPORTS = debian.TREES.parent / "versions"


@dataclass(frozen=True)
class Result:
    """How the tests went on one version.

    Attributes:
        rabbitmq: The version.
        debian: The suite that it came from.
        passed: Tests.
        failed: Tests that failed or could not be set up.
        skipped: Tests that do not apply to this version.
    """

    rabbitmq: str
    debian: str
    passed: int
    failed: int
    skipped: int

    @property
    def good(self) -> bool:
        """Whether there were tests, and none failed."""
        return self.passed > 0 and not self.failed


def main() -> None:
    """Run them, one version after the other, and exit with 1 unless all is well."""
    suites = os.environ.get(server.SUITE, "").split() or SUITES
    # First, so that nobody waits an hour to learn that the second one cannot be fetched.
    trees = {suite: debian.unpack(suite) for suite in suites}
    results = [_run(suite, debian.version(tree), sys.argv[1:]) for suite, tree in trees.items()]
    print(table(results))
    sys.exit(not all(result.good for result in results))


def table(results: Iterable[Result]) -> str:
    """Show results as a table, in Markdown."""
    heads = [field.name for field in fields(Result)]
    rows = [heads, ["---"] * len(heads), *(map(str, astuple(result)) for result in results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _run(suite: str, version: str, arguments: Sequence[str]) -> Result:
    print(f"RabbitMQ {version} (Debian {suite}):", flush=True)
    _REPORTS.mkdir(exist_ok=True)
    report = _REPORTS / f"{suite}.xml"
    report.unlink(missing_ok=True)
    # A broker of the user's would be taken instead of each version.
    inherited = {name: value for name, value in os.environ.items() if name != "AMQP"}
    subprocess.run(
        [sys.executable, "-m", "pytest", *_TESTS, f"--junitxml={report}", *arguments],
        env=inherited | {server.SUITE: suite},
        check=False,
    )
    return read_report(report.read_bytes() if report.exists() else b"<testsuite/>", version, suite)


def read_report(report: bytes, version: str, suite: str) -> Result:
    """Read a result from pytest's report in JUnit's format."""
    suites = list(ET.fromstring(report).iter("testsuite"))  # noqa: S314 - pytest wrote it

    def total(name: str) -> int:
        return sum(int(found.get(name, 0)) for found in suites)

    failed, skipped = total("failures") + total("errors"), total("skipped")
    return Result(version, suite, total("tests") - failed - skipped, failed, skipped)


if __name__ == "__main__":
    main()
