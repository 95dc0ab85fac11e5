"""What every test may use."""

import secrets
from collections.abc import Iterator

import hypothesis
import pytest

from devkit.broker import Broker, open_broker

# No test depends on speed. Everything else stays as hypothesis has it, which on CI draws the same each time.
hypothesis.settings.register_profile(
    "unhurried",
    hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]),
)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Broker]:
    """The run's one broker: that of `AMQP`, else a private node, started when first asked for."""
    with open_broker() as broker:
        yield broker


@pytest.fixture
def prefix() -> str:
    """The start of the test's own queue and exchange names, since all tests share one broker."""
    return f"t{secrets.token_hex(4)}"
