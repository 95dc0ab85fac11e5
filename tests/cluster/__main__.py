"""Run workers against clusters of three RabbitMQ nodes: `python -m tests.cluster`, or `make test-cluster`.

`RABBITMQ` names the Debian suites whose RabbitMQ is run; all arguments are pytest's.
"""

import os
import signal
import sys

from devkit.run import debian, server
from tests.cluster import apart, rows

SUITES = ("bookworm", "sid")


def main() -> None:
    """Run the tests on one version after the other, print the table, and exit with 1 unless all is well."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    apart.check_machine("make test-cluster")
    suites = os.environ.get(server.SUITE, "").split() or SUITES
    trees = {suite: debian.unpack(suite) for suite in suites}
    versions = [debian.version(tree) for tree in trees.values()]
    pytest = (sys.executable, "-m", "pytest", "-m", "cluster", "tests/cluster", *sys.argv[1:])
    codes = []
    for suite, version in zip(suites, versions, strict=True):
        print(f"Three nodes of RabbitMQ {version} (Debian {suite}):", flush=True)
        codes.append(apart.run(*pytest, folder=apart.FOLDER / suite, **{server.SUITE: suite}))
    print(f"RabbitMQ {' / '.join(versions)}:\n")
    print(rows.table([rows.read(apart.FOLDER / suite / rows.FILE) for suite in suites]))
    sys.exit(any(codes))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
