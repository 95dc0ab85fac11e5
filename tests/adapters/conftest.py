"""What tests of the adapters share: a client of CC-FS, and a storage."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.authority import Authority
from tests.adapters.samples import NOW, OpenClient
from worker.ccfs import CcfsClient, open_client
from worker.storage import Storage, Threads


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def client_for() -> OpenClient:
    """Opens a client whose timeouts never strike, unless the test sets others."""

    @asynccontextmanager
    async def open_one(base_url: str, **options: Any) -> AsyncIterator[CcfsClient]:
        defaults: dict[str, Any] = {"clock": lambda: NOW, "connect_timeout": 60, "idle_timeout": 60}
        async with open_client(base_url=base_url, **{**defaults, **options}) as client:
            yield client

    return open_one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def executor() -> Iterator[Threads]:
    with Threads(2) as threads:
        yield threads


@pytest.fixture
def storage(root: Path, executor: Threads) -> Storage:
    return Storage(root, executor, max_file_bytes=64 * 1024**2, min_free_bytes=0)
