"""Which requests the simulator serves and what it says to the others, over a real TLS connection."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.simulator.calls import NAME, body_of, post, signed
from worker.simulator import Simulator, SimulatorOptions, open_simulator


async def test_a_signed_request_gets_the_file(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    answer = await post(http, simulator)

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "Application/Octet-stream;charset=UTF-8"
    assert answer.headers["Content-Length"] == str(len(answer.body)) == "65536"
    assert answer.body == b"".join(simulator.bill("app1", NAME).blocks())
    (asked,) = simulator.requests
    assert (asked.app_id, asked.bill_file_name, asked.answer) == ("app1", NAME, "file")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "elsewhere:1"),
        ("Content-Type", "application/json;charset=UTF-8"),
        ("Authorization", "auth-v2/app1"),
        ("Authorization", ""),
    ],
)
async def test_headers_are_compared_byte_for_byte(
    name: str, value: str, simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """A header changed on the way after it was signed is refused, even where its meaning stays."""
    headers = signed(simulator, body_of()) | {name: value}

    assert (await post(http, simulator, headers=headers)).status == 401
    assert [request.answer for request in simulator.requests] == ["http-401"]


async def test_the_body_is_compared_byte_for_byte(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    headers = signed(simulator, body_of(NAME))
    other = body_of(NAME.replace("9", "8"))

    assert (await post(http, simulator, other, headers)).status == 401


async def test_a_wrong_key_is_refused(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    headers = signed(simulator, body_of(), secret="other")

    assert (await post(http, simulator, headers=headers)).status == 401


@pytest.mark.parametrize("app_id", ["nobody", "..", ".", "a b"])
async def test_an_unknown_account_is_refused(
    app_id: str, simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    headers = signed(simulator, body_of(), app_id=app_id, secret="any")

    assert (await post(http, simulator, headers=headers)).status == 401


@pytest.mark.parametrize(("seconds", "status"), [(-890, 200), (890, 200), (-910, 401), (910, 401)])
async def test_a_stale_signature_is_refused(
    seconds: int, status: int, keys: Path, http: aiohttp.ClientSession
) -> None:
    """A quarter of an hour either way is tolerated, as measured by the simulator's clock."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with open_simulator(SimulatorOptions(keys=keys, clock=lambda: now)) as simulator:
        headers = signed(simulator, body_of(), at=now + timedelta(seconds=seconds))

        assert (await post(http, simulator, headers=headers)).status == status


async def test_a_rotated_key_counts_immediately(
    simulator: Simulator, keys: Path, http: aiohttp.ClientSession
) -> None:
    old = signed(simulator, body_of())
    assert (await post(http, simulator, headers=old)).status == 200
    (keys / "next").write_text("rotated\n")
    (keys / "next").rename(keys / "app1")

    assert (await post(http, simulator, headers=old)).status == 401
    new = signed(simulator, body_of(), secret="rotated")
    assert (await post(http, simulator, headers=new)).status == 200


async def test_only_the_host_that_is_expected_is_served(keys: Path, http: aiohttp.ClientSession) -> None:
    """Behind a balancer CC-FS insists on a Host that is not the address dialled."""
    options = SimulatorOptions(keys=keys, host_header="10.22.26.181:28080")
    async with open_simulator(options) as simulator:
        assert (await post(http, simulator)).status == 401
        headers = signed(simulator, body_of(), headers={"Host": "10.22.26.181:28080"})
        assert (await post(http, simulator, headers=headers)).status == 200


async def test_other_paths_and_methods_are_refused(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    assert (await post(http, simulator, path="/CCFS/resource/ccfs/other")).status == 404
    async with http.get(simulator.url + "/CCFS/resource/ccfs/downloadBillFile", ssl=False) as response:
        assert response.status == 405


async def test_another_content_type_is_refused(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    headers = signed(simulator, body_of(), headers={"Content-Type": "text/plain"})

    assert (await post(http, simulator, headers=headers)).status == 415


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "0300007"),
        (b"nonsense", "0300007"),
        (b"[]", "0300007"),
        (b'{"request":{"version":"2.0"}}', "0300007"),
        (b'{"msgBody":{"billFileName":"20260102_a.zip"}}', "0300001"),
        (body_of(version="1.0"), "0300006"),
        (body_of(version="2" * 33), "0300003"),
        (body_of(None), "0300001"),
        (body_of(""), "0300002"),
        (body_of(7), "0300004"),
        (body_of("20260102_" + "a" * 37 + ".zip"), "0300003"),
        (body_of("20260102_.zip"), "0300005"),
        (body_of("20260102_a/../../b.zip"), "0300004"),
        (body_of("20260230_a.zip"), "0300010"),
    ],
)
async def test_a_bad_body_gets_the_vendors_code(
    body: bytes, code: str, simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    answer = await post(http, simulator, body, signed(simulator, body))

    assert (answer.status, answer.code) == (200, code)
