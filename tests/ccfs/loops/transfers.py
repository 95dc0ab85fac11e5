"""Downloads the way that large files go."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from tests.ccfs.samples import JOB, KEY
from worker.ccfs import CcfsClient
from worker.core.ports import Incoming

OpenTo = Callable[..., AbstractAsyncContextManager[CcfsClient]]
"""Opens a client to a server that plays a script."""


async def drain(incoming: Incoming, use: Callable[[memoryview], object]) -> None:
    while not incoming.is_whole:
        async with incoming.turn():
            await asyncio.to_thread(incoming.receive, use, threading.Event())


async def receive_all(client: CcfsClient, *, first: Callable[[], Awaitable[object]] | None = None) -> bytes:
    """Download a file by a takeover, done after whatever comes first."""
    content = bytearray()
    async with client.open(JOB, KEY) as file:
        if first is not None:
            await first()
        incoming = await file.take_over()
        assert incoming is not None
        await drain(incoming, content.extend)
    return bytes(content)
