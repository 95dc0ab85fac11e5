"""A simulator with the keys of two accounts, and clients for it."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from worker import signing
from worker.simulator import Simulator, SimulatorOptions, open_simulator
from worker.tls import client_context

PATH = "/CCFS/resource/ccfs/downloadBillFile"
NAME = "20260102_9239cb50a8384bb0ab503441bf089446.zip"
KEYS = {"app1": "secret-1", "app2": "secret-2"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    for app_id, secret in KEYS.items():
        (directory / app_id).write_text(f"{secret}\n")
    return directory


@pytest.fixture
async def simulator(keys: Path) -> AsyncIterator[Simulator]:
    async with open_simulator(SimulatorOptions(keys=keys)) as simulator:
        yield simulator


def body_of(name: Any = NAME, version: Any = "2.0") -> bytes:
    return json.dumps({"request": {"version": version}, "msgBody": {"billFileName": name}}).encode()


def signed(
    simulator: Simulator,
    body: bytes,
    *,
    app_id: str = "app1",
    secret: str | None = None,
    at: datetime | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request for `body`, signed as CC-FS wants them."""
    sent = {
        "Host": simulator.url.partition("//")[2],
        "Content-Type": "application/json; charset=UTF-8",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    value = signing.authorization(
        signing.Request(method="POST", path=PATH, headers=sent, body=body),
        access_key=app_id,
        secret_key=secret or KEYS[app_id],
        timestamp=signing.format_timestamp(at or datetime.now(UTC)),
    )
    return {**sent, "Authorization": value}


class Answer:
    """An answer read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def code(self) -> str:
        """Its resultCode."""
        return str(json.loads(self.body)["resultCode"])


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def post(
    http: aiohttp.ClientSession,
    simulator: Simulator,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    path: str = PATH,
) -> Answer:
    """Send a request, a good one unless told otherwise."""
    body = body_of() if body is None else body
    tls = client_context(ca_file=simulator.ca_file) if simulator.ca_file else True
    async with http.post(
        simulator.url + path,
        data=body,
        headers=headers or signed(simulator, body),
        ssl=tls,
        allow_redirects=False,
    ) as response:
        return Answer(response, await response.read())
