"""What the peers share: their settings, the request, the result, and putting a file in its place."""

import json
import os
import runpy
import uuid
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

# The module alone: the peers' environment lacks what its room imports.
signing = SimpleNamespace(**runpy.run_path("worker/ccfs/signing.py"))

DOWNLOAD_PATH = "/CCFS/resource/ccfs/downloadBillFile"
CHUNK_BYTES = 256 * 1024

_CONTENT_TYPE = "application/json; charset=UTF-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the benchmark tells a peer through `BENCH_…` variables.

    Attributes:
        amqp_url: The broker.
        queue: The queue of jobs.
        results: The exchange of results.
        base_url: The file server.
        host: Its Host value.
        ca_file: The authority behind its certificate.
        root: The storage root.
        secret_key: The key of every account.
        concurrency: Concurrent jobs.
    """

    amqp_url: str
    queue: str
    results: str
    base_url: str
    host: str
    ca_file: str
    root: Path
    secret_key: str
    concurrency: int


def settings() -> Settings:
    """Read the settings."""
    env = {name.removeprefix("BENCH_").lower(): value for name, value in os.environ.items()}
    return Settings(
        amqp_url=env["amqp_url"],
        queue=env["queue"],
        results=env["results"],
        base_url=env["base_url"],
        host=env["base_url"].split("//")[1],
        ca_file=env["ca_file"],
        root=Path(env["root"]),
        secret_key=env["secret_key"],
        concurrency=int(env["concurrency"]),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file goes, and where it lies until it is whole."""

    target: Path
    part: Path


def now() -> str:
    """The moment, as results show it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def request_body(bill_file_name: str) -> bytes:
    """The request's body."""
    return json.dumps({"request": {"version": "2.0"}, "msgBody": {"billFileName": bill_file_name}}).encode()


def signed_headers(env: Settings, app_id: str, body: bytes) -> dict[str, str]:
    """The request's headers, signed."""
    signed = {"Host": env.host, "Content-Type": _CONTENT_TYPE, "Content-Length": str(len(body))}
    authorization = signing.authorization(
        signing.Request(method="POST", path=DOWNLOAD_PATH, headers=signed, body=body),
        access_key=app_id,
        secret_key=env.secret_key,
        timestamp=signing.format_timestamp(datetime.now(UTC)),
    )
    return {**signed, "Authorization": authorization, "Accept-Encoding": "identity"}


def place(env: Settings, app_id: str, bill_file_name: str) -> Place:
    """Find the place of a file and make its directory."""
    directory = env.root / app_id / bill_file_name[:8]
    directory.mkdir(parents=True, exist_ok=True)
    return Place(directory / bill_file_name, directory / f".{bill_file_name}.{uuid.uuid4().hex}.part")


def check(part: Path) -> None:
    """Read every entry of the zip.

    Raises:
        zipfile.BadZipFile: It is not sound.
    """
    with zipfile.ZipFile(part) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(broken)


def publish(where: Place) -> None:
    """Give a whole file its name, durably."""
    where.part.replace(where.target)
    descriptor = os.open(where.target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def result(app_id: str, bill_file_name: str, sha256: str, size: int, started_at: str) -> dict[str, object]:
    """The result of a job that is done."""
    return {
        "status": "completed",
        "appId": app_id,
        "billFileName": bill_file_name,
        "path": f"{app_id}/{bill_file_name[:8]}/{bill_file_name}",
        "sizeBytes": size,
        "sha256": sha256,
        "startedAt": started_at,
        "finishedAt": now(),
    }
