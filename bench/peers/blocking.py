"""The download with requests, as the peers made of threads do it."""

import hashlib
import os
import threading
from typing import Any

import requests

from bench.peers import job

_local = threading.local()


def download(env: job.Settings, app_id: str, bill_file_name: str) -> dict[str, Any]:
    """Bring a file to its place and return the result."""
    started_at = job.now()
    where = job.place(env, app_id, bill_file_name)
    body = job.request_body(bill_file_name)
    headers = job.signed_headers(env, app_id, body)
    digest, size = hashlib.sha256(), 0
    url = env.base_url + job.DOWNLOAD_PATH
    with _session(env).post(url, data=body, headers=headers, stream=True, timeout=60) as response:
        response.raise_for_status()
        with where.part.open("xb") as file:
            for chunk in response.iter_content(job.CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    job.check(where.part)
    job.publish(where)
    return job.result(app_id, bill_file_name, digest.hexdigest(), size, started_at)


def _session(env: job.Settings) -> requests.Session:
    """This thread's client: a session keeps its connection open and is not to be shared."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.verify = env.ca_file
        # Proxies and .netrc of the environment cost a look at each request and have no place here.
        _local.session.trust_env = False
    session: requests.Session = _local.session
    return session
