"""The download with aiohttp and aiofiles, as the asynchronous peers do it."""

import asyncio
import hashlib
import os
import ssl
from typing import Any

import aiofiles
import aiohttp

from bench.peers import job


def session(env: job.Settings) -> aiohttp.ClientSession:
    """Open the client; call it within the event loop."""
    tls = ssl.create_default_context(cafile=env.ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
        read_bufsize=job.CHUNK_BYTES,
    )


async def download(
    http: aiohttp.ClientSession, env: job.Settings, app_id: str, bill_file_name: str
) -> dict[str, Any]:
    """Bring a file to its place and return the result."""
    started_at = job.now()
    where = job.place(env, app_id, bill_file_name)
    body = job.request_body(bill_file_name)
    headers = job.signed_headers(env, app_id, body)
    digest, size = hashlib.sha256(), 0
    async with http.post(env.base_url + job.DOWNLOAD_PATH, data=body, headers=headers) as response:
        response.raise_for_status()
        async with aiofiles.open(where.part, "xb") as file:
            async for chunk in response.content.iter_chunked(job.CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                await file.write(chunk)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
    await asyncio.to_thread(job.check, where.part)
    await asyncio.to_thread(job.publish, where)
    return job.result(app_id, bill_file_name, digest.hexdigest(), size, started_at)
