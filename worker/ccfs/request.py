"""Makes the bytes of requests to CC-FS, and the headers that are signed. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime

from yarl import URL

from schemas import DownloadJob
from worker.ccfs import signing

DOWNLOAD_PATH = "/CCFS/resource/ccfs/downloadBillFile"
CONTENT_TYPE = "application/json; charset=UTF-8"
_USER_AGENT = "ccfs-worker"
_COMPACT = json.JSONEncoder(separators=(",", ":"))


def host_and_port(base_url: str) -> str:
    """Return the Host value `ip:port` that CC-FS checks; the port is there even if it is the default."""
    url = URL(base_url)
    return f"{url.host_subcomponent}:{url.port}"


def signing_request(job: DownloadJob, host: str) -> signing.Request:
    """Return the signed part of the request for a job's file; `host` as from `host_and_port`."""
    fields = {"request": {"version": "2.0"}, "msgBody": {"billFileName": job.bill_file_name}}
    # Serialised once: the bytes that are signed are the bytes that are sent.
    body = _COMPACT.encode(fields).encode()
    headers = {"Host": host, "Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))}
    return signing.Request(method="POST", path=DOWNLOAD_PATH, headers=headers, body=body)


def signed_headers(
    request: signing.Request, *, app_id: str, secret_key: str, now: datetime
) -> dict[str, str]:
    """Return the headers of a request: the signed ones, exactly as they are sent, and the signature.

    Args:
        request: From `signing_request`.
        app_id: The account that asks.
        secret_key: Its key.
        now: The moment that is signed, timezone-aware; CC-FS refuses a stale one.
    """
    authorization = signing.authorization(
        request, access_key=app_id, secret_key=secret_key, timestamp=signing.format_timestamp(now)
    )
    return {
        **request.headers,
        "Authorization": authorization,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }


def download_bytes(job: DownloadJob, host: str, *, secret_key: str, now: datetime, keep_alive: bool) -> bytes:
    """Return the whole request for a job's file, signed: see `signing_request` and `signed_headers`.

    With `keep_alive`, another request may follow on the connection.
    """
    request = signing_request(job, host)
    headers = signed_headers(request, app_id=job.app_id, secret_key=secret_key, now=now)
    return _head(request.method, headers, keep_alive=keep_alive) + request.body


def probe_bytes(host: str) -> bytes:
    """Return an unsigned request, for any answer at all, on a connection that serves no other."""
    return _head("GET", {"Host": host, "Accept": "*/*"}, keep_alive=False)


def _head(method: str, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    # A line break in a value would begin another header: appId and file name were checked with the job.
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    lines += "" if keep_alive else "Connection: close\r\n"
    return f"{method} {DOWNLOAD_PATH} HTTP/1.1\r\n{lines}User-Agent: {_USER_AGENT}\r\n\r\n".encode("ascii")
