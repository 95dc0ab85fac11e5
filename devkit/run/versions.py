"""Run the tests that need RabbitMQ on several versions of it: `python -m devkit.run.versions`.

`RABBITMQ` may name other Debian suites than those below; all arguments are pytest's.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from devkit.run import debian, server
from devkit.run.reports import Counts, read_report, table

SUITES = ("bookworm", "trixie", "sid")
_TESTS = ("-m", "broker and not whole and not image")
_REPORTS = debian.TREES.parent / "versions"


def main() -> None:
    """Run them, one version after the other, and exit with 1 unless all is well."""
    suites = os.environ.get(server.SUITE, "").split() or SUITES
    # First, so that nobody waits an hour to learn that the second one cannot be fetched.
    trees = {suite: debian.unpack(suite) for suite in suites}
    rows = []
    for suite, tree in trees.items():
        version = debian.version(tree)
        print(f"RabbitMQ {version} (Debian {suite}):", flush=True)
        rows.append(((version, suite), _run(suite, sys.argv[1:])))
    print(table(("rabbitmq", "debian"), rows))
    sys.exit(not all(counts.good for _, counts in rows))


def _run(suite: str, arguments: Sequence[str]) -> Counts:
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
    return read_report(report.read_bytes() if report.exists() else b"<testsuite/>")


if __name__ == "__main__":
    main()
