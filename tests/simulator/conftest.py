"""A simulator with the keys of two accounts, and a client for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.simulator.calls import KEYS
from worker.simulator import Simulator, SimulatorOptions, open_simulator


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    for app_id, secret in KEYS.items():
        (directory / app_id).write_text(f"{secret}\n")
    return directory


@pytest.fixture
async def simulator(keys: Path) -> AsyncIterator[Simulator]:
    async with open_simulator(SimulatorOptions(keys=keys)) as simulator:
        yield simulator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session
