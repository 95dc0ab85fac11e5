"""What looks at the worker from outside: Prometheus's own programs."""

import pytest

from devkit import prometheus


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool")


def _program(name: str) -> str:
    try:
        return prometheus.program(name)
    except SystemExit as missing:
        pytest.skip(str(missing))
