"""Tests here run on asyncio's own event loop and on uvloop, which the worker takes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from tests.ccfs.authority import Authority
from tests.ccfs.loops.transfers import OpenTo
from tests.ccfs.raw import Script, serving
from tests.ccfs.samples import OpenClient
from worker.ccfs import CcfsClient
from worker.runtime import loop_factory


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if uvloop := loop_factory():
        loops["uvloop"] = uvloop
    return loops


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def client_of(request: pytest.FixtureRequest, client_for: OpenClient, authority: Authority) -> OpenTo:
    """Plays a script to a client, over plain HTTP or TLS."""

    @asynccontextmanager
    async def open_one(script: Script, **options: float) -> AsyncIterator[CcfsClient]:
        async with (
            serving(script, tls=authority.server() if request.param else None) as server,
            client_for(server.base_url, tls=authority.client(), **options) as client,
        ):
            yield client

    return open_one
