"""`ccfs-worker sign`: the signature of a request laid open, for support cases."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from worker import wiring
from worker.ccfs import host_and_port, signing, signing_request
from worker.ccfs.keys import KeyDirectory
from worker.cli import terminal
from worker.cli.arguments import AppIdArgument, FileArgument, one_job
from worker.cli.terminal import Output, OutputOption
from worker.net.urls import MASK
from worker.settings import SettingsError, SigningSettings, load_part

_SHOWN = 6
"""Characters of a signature that are shown at each end: enough to compare two, of no use to anybody else."""


def sign(
    *,
    app_id: AppIdArgument,
    file: FileArgument,
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at",
            formats=["%Y-%m-%dT%H:%M:%SZ"],
            help="The time to sign with, in UTC, to show an earlier request again. Default: now.",
            show_default=False,
        ),
    ] = None,
    show_signature: Annotated[
        bool,
        typer.Option(
            "--show-signature",
            help="Show the whole signature. It can be used for a while by anybody who sees it.",
        ),
    ] = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Show the signed request for a file, for support cases.

    Prints what the worker would send to CC-FS, and what of it is signed. Sends nothing. The key is never
    shown, and the signature only in part by default. After a 401, compare the canonical request line by
    line with what CC-FS's side computes.

    Examples:
        ccfs-worker sign app1 20260131_9239cb50.zip
        ccfs-worker sign app1 20260131_9239cb50.zip --at 2026-01-31T08:15:00Z
    """
    job = one_job(app_id, file)
    settings = load_part(SigningSettings)
    if problems := list(wiring.credentials_problems(settings.credentials)):
        raise SettingsError(problems)
    key = KeyDirectory(settings.credentials.dir).read(app_id)
    request = signing_request(job, settings.ccfs.host_header or host_and_port(settings.ccfs.base_url))
    authorization = signing.authorization(
        request,
        access_key=app_id,
        secret_key=key,
        timestamp=signing.format_timestamp(at.replace(tzinfo=UTC) if at else wiring.now()),
    )
    if not show_signature:
        prefix, _, signature = authorization.rpartition("/")
        authorization = f"{prefix}/{signature[:_SHOWN]}…{signature[-_SHOWN:]}"
    url = settings.ccfs.base_url + request.path
    headers = {**request.headers, "Authorization": authorization}
    masked_key = f"{MASK} ({len(key)} characters)"
    if output_format is Output.JSON:
        terminal.json_line(
            {
                "method": request.method,
                "url": url,
                "headers": headers,
                "body": request.body.decode(),
                "canonicalRequest": signing.canonical_request(request),
                "key": masked_key,
            }
        )
        return
    typer.echo(f"{request.method} {url}")
    for name, value in headers.items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"\n{request.body.decode()}\n")
    typer.echo(f"Canonical request:\n{signing.canonical_request(request)}\n")
    typer.echo(f"Key: {masked_key}")
