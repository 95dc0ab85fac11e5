"""What `make fuzz` runs for minutes holds for what it starts from, and for random bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_what_it_starts_from(name: str) -> None:
    target, seeds = TARGETS[name]

    for seed in seeds:
        target(seed)


# The target of messages draws from its grammar by itself, and has a test of its own.
@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"message"}))
@given(data=st.binary(max_size=500))
def test_a_target_takes_anything(name: str, data: bytes) -> None:
    TARGETS[name][0](data)
