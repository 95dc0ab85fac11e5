"""A job, its key, its file, and the ways to move it."""

import io
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import PurePosixPath

from schemas import DownloadJob
from worker.ccfs import CcfsClient
from worker.core.ports import Chunk

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
KEY = "1qaz2wsx3edc4rfv5tgb"
JOB = DownloadJob(app_id="app1", bill_file_name="20260131_9239cb50.zip")
PATH = PurePosixPath("app1/20260131/20260131_9239cb50.zip")

OpenClient = Callable[..., AbstractAsyncContextManager[CcfsClient]]


def make_zip(*contents: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A bill with so many entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for number, content in enumerate(contents or (b"a,b\n1,2\n",)):
            archive.writestr(f"20260131081500{number:03}123_call.csv", content)
    return buffer.getvalue()


async def stream(*chunks: bytes) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        yield chunk


async def read_all(client: CcfsClient, job: DownloadJob = JOB, key: str = KEY) -> bytes:
    """Download a job's file into memory."""
    async with client.open(job, key) as file:
        return b"".join([bytes(chunk) async for chunk in file.chunks])
