"""Start the worker for a sample, with requests to CC-FS by aiohttp's session instead of our own connection.

It keeps the session's own rules: a late second answer may be taken for another job's.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from unittest.mock import patch

import aiohttp

from schemas import DownloadJob
from worker import wiring
from worker.ccfs import DOWNLOAD_PATH, CcfsClient, FileStream, host_and_port, signing_request
from worker.ccfs.request import signed_headers
from worker.cli import main
from worker.core.progress import Progress

_READ_BYTES = 1024 * 1024


class SessionClient(CcfsClient):
    """Asks CC-FS for files by a session.

    Args:
        session: The session.
        base_url: As for `worker.ccfs.open_client`.
    """

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._host = host_and_port(base_url)

    @property
    def turned_away(self) -> str:
        """Implements `CcfsClient`."""
        return ""

    @property
    def certificate_end(self) -> float:
        """Implements `CcfsClient`."""
        return float("nan")

    @asynccontextmanager
    async def open(
        self, job: DownloadJob, secret_key: str, progress: Progress | None = None
    ) -> AsyncIterator[FileStream]:
        """Implements `CcfsClient` for files that are there."""
        request = signing_request(job, self._host)
        headers = signed_headers(request, app_id=job.app_id, secret_key=secret_key, now=datetime.now(UTC))
        async with self._session.post(DOWNLOAD_PATH, data=request.body, headers=headers) as response:
            response.raise_for_status()
            if progress is not None:
                progress.asked, progress.http_status = True, response.status
            yield FileStream(response.content_length, response.content.iter_any())


@asynccontextmanager
async def open_by_session(
    *, base_url: str, tls: ssl.SSLContext | None = None, **_: object
) -> AsyncIterator[SessionClient]:
    """Open a client in place of `worker.ccfs.open_client`."""
    async with aiohttp.ClientSession(
        base_url,
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        read_bufsize=_READ_BYTES,
    ) as session:
        yield SessionClient(session, base_url)


if __name__ == "__main__":
    with patch.object(wiring, "open_client", open_by_session):
        main(["run"])
