"""The request as it goes over the wire."""

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from schemas import DownloadJob, ErrorCode
from tests.ccfs.raw import Peer, Request, answering, response, serving
from tests.ccfs.samples import JOB, KEY, OpenClient, make_zip, read_all
from worker.errors import JobError

MINUTE_PAST = datetime(2026, 1, 31, 8, 16, tzinfo=UTC)


def sign_again(request: Request, key: str) -> str:
    """Compute what Authorization must be from nothing but the bytes received, by the vendor's rules."""
    scheme, access_key, timestamp, names, _ = request.headers["authorization"].split("/")
    signed = [f"{name}:{quote(request.headers[name], safe='-._~')}" for name in names.split(";")]
    canonical = ["POST", request.line.split(" ")[1], names, *signed, quote(request.body, safe="-._~")]
    prefix = f"{scheme}/{access_key}/{timestamp}/{names}"
    signing_key = hmac.new(key.encode(), prefix.encode(), hashlib.sha256).hexdigest()
    signature = hmac.new(signing_key.encode(), "\n".join(canonical).encode(), hashlib.sha256).hexdigest()
    return f"{prefix}/{signature}"


async def test_what_is_signed_is_what_is_sent(client_for: OpenClient) -> None:
    """The signature covers Host, Content-Type, Content-Length and body, byte for byte as they arrive."""
    async with serving(answering(response(make_zip()))) as server, client_for(server.base_url) as client:
        await read_all(client)

    (request,) = server.requests
    assert request.line == "POST /CCFS/resource/ccfs/downloadBillFile HTTP/1.1"
    assert request.headers["authorization"] == sign_again(request, KEY)
    assert request.headers["authorization"].startswith(
        "auth-v2/app1/2026-01-31T08:15:00Z/content-length;content-type;host/"
    )
    assert request.headers["host"] == server.base_url.removeprefix("http://")
    assert request.headers["content-type"] == "application/json; charset=UTF-8"
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["accept-encoding"] == "identity"
    assert "transfer-encoding" not in request.headers
    assert json.loads(request.body) == {
        "request": {"version": "2.0"},
        "msgBody": {"billFileName": "20260131_9239cb50.zip"},
    }


async def test_host_can_be_set_and_is_signed_as_set(client_for: OpenClient) -> None:
    """CC-FS checks the Host that it sees, which behind a proxy is not the address dialled."""
    async with (
        serving(answering(response(make_zip()))) as server,
        client_for(server.base_url, host_header="10.22.26.181:28080") as client,
    ):
        await read_all(client)

    assert server.requests[0].headers["host"] == "10.22.26.181:28080"
    assert server.requests[0].headers["authorization"] == sign_again(server.requests[0], KEY)


async def test_ipv6_addresses_are_bracketed_in_host(client_for: OpenClient) -> None:
    async with (
        serving(answering(response(make_zip())), address="::1") as server,
        client_for(server.base_url) as client,
    ):
        await read_all(client)

    assert server.requests[0].headers["host"] == server.base_url.removeprefix("http://")
    assert server.requests[0].headers["host"].startswith("[::1]:")


async def test_every_attempt_is_signed_anew(client_for: OpenClient) -> None:
    """CC-FS refuses a stale timestamp."""
    times = iter([datetime(2026, 1, 31, 8, 15, tzinfo=UTC), MINUTE_PAST])
    async with (
        serving(answering(response(make_zip()), keep=True)) as server,
        client_for(server.base_url, clock=lambda: next(times)) as client,
    ):
        await read_all(client)
        await read_all(client)

    first, second = (request.headers["authorization"] for request in server.requests)
    assert "2026-01-31T08:15:00Z" in first
    assert "2026-01-31T08:16:00Z" in second


async def test_each_account_signs_with_its_own_name_and_key(client_for: OpenClient) -> None:
    other = DownloadJob(app_id="app-2", bill_file_name="20260131_x.zip")
    async with (
        serving(answering(response(make_zip()), keep=True)) as server,
        client_for(server.base_url) as client,
    ):
        await read_all(client, JOB, "first key")
        await read_all(client, other, "ключ 2")

    assert server.requests[0].headers["authorization"] == sign_again(server.requests[0], "first key")
    assert server.requests[1].headers["authorization"] == sign_again(server.requests[1], "ключ 2")
    assert server.requests[1].headers["authorization"].startswith("auth-v2/app-2/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(client_for: OpenClient, status: int) -> None:
    """One would carry the signature elsewhere."""

    async def redirect(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(status=status, Location="/elsewhere"))
        await peer.until_hung_up()

    async with serving(redirect) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.UPSTREAM_ERROR, status)
    assert len(server.requests) == 1


async def test_cookies_are_not_sent_back(client_for: OpenClient) -> None:
    """A load balancer's cookie would tie all requests to one of its servers."""
    answer = response(make_zip(), Set_Cookie="route=1; Path=/")
    async with serving(answering(answer, keep=True)) as server, client_for(server.base_url) as client:
        await read_all(client)
        await read_all(client)

    assert all("cookie" not in request.headers for request in server.requests)


async def test_the_rate_limit_bounds_requests_over_time(client_for: OpenClient) -> None:
    """At 20 a second, 2 may go together: 8 take 0.3 s or more, however fast the machine."""
    loop = asyncio.get_running_loop()
    async with (
        serving(answering(response(make_zip()), keep=True)) as server,
        client_for(server.base_url, max_requests_per_second=20) as client,
    ):
        began = loop.time()
        await asyncio.gather(*(read_all(client) for _ in range(8)))
        took = loop.time() - began

    assert len(server.requests) == 8
    assert took >= 0.29


async def test_less_than_one_request_a_second_can_be_set(client_for: OpenClient) -> None:
    async with (
        serving(answering(response(make_zip()), keep=True)) as server,
        client_for(server.base_url, max_requests_per_second=0.5) as client,
    ):
        await read_all(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_all(client), 0.1)

    assert len(server.requests) == 1
