"""`ccfs-worker fetch`: one file, without a broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from schemas import DownloadJob
from worker import wiring
from worker.ccfs import CcfsClient, FileStream
from worker.cli import terminal
from worker.cli.arguments import AppIdArgument, FileArgument, one_job
from worker.cli.terminal import Output, OutputOption, QuietOption
from worker.core.accounts import Accounts, HoldPolicy
from worker.core.attempt import Downloader
from worker.core.outcome import StoredFile
from worker.core.ports import Chunk
from worker.core.progress import Progress
from worker.runtime import loop_factory
from worker.settings import FetchSettings, SettingsError, load_part
from worker.storage import Threads

_THREADS = 4


def fetch(
    *,
    app_id: AppIdArgument,
    file: FileArgument,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="DIR",
            help="Another root than the shared storage; the file lies under it as DIR/appId/yyyyMMdd/FILE.",
            show_default=False,
        ),
    ] = None,
    quiet: QuietOption = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Download one file as the worker would, without a broker.

    One attempt, checked and stored the same way. Ends with 1 when that fails, with the error code that the
    job's outcome would have. A good file that is already there is not downloaded again.

    Examples:
        ccfs-worker fetch app1 20260131_9239cb50.zip
        ccfs-worker fetch app1 20260131_9239cb50.zip --to .
    """
    terminal.hush(quiet=quiet)
    job = one_job(app_id, file)
    settings = load_part(FetchSettings, **({"storage": {"root": to}} if to else {}))
    if problems := [
        *wiring.storage_problems(settings.storage, called="--to" if to else wiring.STORAGE_ROOT),
        *wiring.credentials_problems(settings.credentials),
    ]:
        raise SettingsError(problems)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        stored = runner.run(_fetch(settings, job))
    if output_format is Output.JSON:
        terminal.json_line(
            {
                "path": stored.path,
                "sizeBytes": stored.size_bytes,
                "sha256": stored.sha256,
                "reused": stored.reused,
            }
        )
        return
    how = "was there already" if stored.reused else "downloaded"
    typer.echo(f"{settings.storage.root / stored.path}  {stored.size_bytes:,} bytes  {how}")
    typer.echo(f"sha256 {stored.sha256}")


async def _fetch(settings: FetchSettings, job: DownloadJob) -> StoredFile:
    tls = wiring.ccfs_tls(settings.ccfs)
    columns = DownloadColumn(binary_units=True), TransferSpeedColumn()
    bar = terminal.progress(job.bill_file_name, None, *columns)
    with Threads(_THREADS) as executor, bar:
        async with wiring.ccfs_client(settings.ccfs, tls) as client:
            downloader = Downloader(
                keys=wiring.keyring(settings.credentials, executor, patience=settings.storage.hang_after),
                source=_Watched(client, bar),
                store=wiring.shared_storage(settings.storage, executor),
                accounts=Accounts(HoldPolicy(), clock=wiring.now),
                job_timeout=settings.job_timeout,
            )
            return await downloader.fetch(job)


class _Watched:
    """CC-FS, with a bar that moves as a file comes in; implements `worker.core.ports.Source`."""

    def __init__(self, client: CcfsClient, bar: Bar) -> None:
        self._client = client
        self._bar = bar

    @asynccontextmanager
    async def open(self, job: DownloadJob, secret_key: str, progress: Progress) -> AsyncIterator[FileStream]:
        """Request a job's file."""
        async with self._client.open(job, secret_key, progress) as stream:
            task = self._bar.task_ids[0]
            self._bar.reset(task, total=stream.announced_bytes)

            async def counted() -> AsyncIterator[Chunk]:
                async for chunk in stream.chunks:
                    self._bar.advance(task, len(chunk))
                    yield chunk

            yield FileStream(stream.announced_bytes, counted())
