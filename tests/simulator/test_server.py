"""What the simulator plans, remembers and survives."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.simulator.calls import NAME, PATH, Answer, body_of, post, signed
from tests.sockets import reset_on_close
from worker.net.tls import client_context
from worker.simulator import (
    AnsweredRequest,
    Fault,
    FaultRate,
    Range,
    ReceivedRequest,
    Simulator,
    SimulatorOptions,
    faults,
    open_simulator,
)

OTHER = "20260103_other.zip"


async def ask(
    http: aiohttp.ClientSession, simulator: Simulator, name: str = NAME, app_id: str = "app1"
) -> Answer:
    body = body_of(name)
    return await post(http, simulator, body, signed(simulator, body, app_id=app_id))


def connect(simulator: Simulator) -> socket.socket:
    url = URL(simulator.url)
    plain = socket.create_connection((url.host, url.port))
    if simulator.ca_file is None:
        return plain
    return client_context(ca_file=simulator.ca_file).wrap_socket(plain, server_hostname=url.host)


def answers(simulator: Simulator) -> list[str]:
    return [request.answer for request in simulator.requests]


async def test_a_plan_scripts_what_each_request_gets(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """It gets the file and how often it was asked for; files are counted separately."""

    def first_request_fails(request: ReceivedRequest) -> Fault | None:
        return faults.ResultCode(code="0300009") if request.count == 1 else None

    simulator.plan = first_request_fails
    for name in (NAME, OTHER, NAME, OTHER):
        await ask(http, simulator, name)

    assert answers(simulator) == ["0300009", "0300009", "file", "file"]


async def test_missing_files_do_not_exist(keys: Path, http: aiohttp.ClientSession) -> None:
    async with open_simulator(SimulatorOptions(keys=keys, missing=("*_other.zip",))) as simulator:
        assert (await ask(http, simulator, OTHER)).code == "0300011"
        assert (await ask(http, simulator)).body[:2] == b"PK"


async def test_rates_hit_their_share_and_the_same_files_again(
    keys: Path, http: aiohttp.ClientSession
) -> None:
    options = SimulatorOptions(
        keys=keys,
        plain=True,
        faults=(
            FaultRate(faults.ResultCode(code="0300008"), 0.3),
            FaultRate(faults.StatusCode(status=503), 0.2),
        ),
    )

    async def run() -> list[str]:
        async with open_simulator(options) as simulator:
            for number in range(200):
                await ask(http, simulator, f"20260102_{number}.zip")
            return answers(simulator)

    drawn = await run()
    assert 40 < drawn.count("0300008") < 80
    assert 20 < drawn.count("http-503") < 60
    assert drawn == await run()


async def test_sizes_are_drawn_from_their_ranges_by_file(keys: Path) -> None:
    options = SimulatorOptions(keys=keys, sizes=(Range(5000, weight=1), Range(10_000, 20_000, weight=3)))
    sizes = [options.size_of("app1", f"20260102_{number}.zip") for number in range(400)]

    assert sizes == [options.size_of("app1", f"20260102_{number}.zip") for number in range(400)]
    assert 50 < sizes.count(5000) < 150
    assert all(size == 5000 or 10_000 <= size <= 20_000 for size in sizes)


async def test_an_account_has_no_more_downloads_than_allowed(keys: Path, http: aiohttp.ClientSession) -> None:
    """One download too many is refused, other accounts are not concerned, and a finished one makes room."""
    async with open_simulator(SimulatorOptions(keys=keys, downloads_per_app=1)) as simulator:
        hold = faults.HeldAnswer()
        simulator.plan = lambda request: hold if request.bill_file_name == NAME else None
        held = asyncio.create_task(ask(http, simulator))
        await hold.reached.wait()

        assert (await ask(http, simulator, OTHER)).code == "0300008"
        assert (await ask(http, simulator, OTHER, "app2")).body[:2] == b"PK"
        hold.release.set()
        await held
        assert (await ask(http, simulator, OTHER)).body[:2] == b"PK"


async def test_latency_passes_before_the_answer(keys: Path, http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    async with open_simulator(SimulatorOptions(keys=keys, latency=Range(0.2, 0.3))) as simulator:
        started = loop.time()
        await ask(http, simulator)
        assert loop.time() - started > 0.2


async def test_bandwidth_bounds_every_answer(keys: Path, http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    async with open_simulator(SimulatorOptions(keys=keys, bandwidth=4 * 65_536)) as simulator:
        started = loop.time()
        assert len((await ask(http, simulator)).body) == 65_536
        assert loop.time() - started > 0.2


async def test_refusals_say_who_was_refused_and_why(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    headers = signed(simulator, body_of(), secret="other")
    await post(http, simulator, headers=headers)

    (refused,) = simulator.requests
    assert (refused.app_id, refused.bill_file_name, refused.answer) == ("app1", None, "http-401")
    assert refused.reason == "not authenticated: the signature is not that of what was received"


async def test_only_so_many_requests_are_remembered(keys: Path, http: aiohttp.ClientSession) -> None:
    told: list[AnsweredRequest] = []
    options = SimulatorOptions(keys=keys, history=2, on_answer=told.append)
    async with open_simulator(options) as simulator:
        for _ in range(3):
            await ask(http, simulator)

        assert len(told) == 3
        assert simulator.requests == told[1:]


async def test_a_simulator_starts_again_on_the_same_port(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    url = simulator.url
    await ask(http, simulator)
    await simulator.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(http, simulator)
    await simulator.start()

    assert simulator.url == url
    assert (await ask(http, simulator)).status == 200
    assert len(simulator.requests) == 2


@pytest.mark.parametrize("fault", [faults.Stall(), faults.Silence(), faults.HeldAnswer(), faults.Endless()])
async def test_stopping_cuts_answers_in_mid_body(
    simulator: Simulator, http: aiohttp.ClientSession, fault: Fault
) -> None:
    """None of them is waited for: a stop is what a crash of CC-FS looks like."""
    asked = asyncio.Event()

    def plan(_: ReceivedRequest) -> Fault:
        asked.set()
        return fault

    simulator.plan = plan
    asking = asyncio.create_task(ask(http, simulator))
    await asked.wait()
    await simulator.stop()

    with pytest.raises(aiohttp.ClientError):
        await asking


async def test_a_client_that_leaves_in_mid_body_frees_its_place(
    keys: Path, http: aiohttp.ClientSession
) -> None:
    async with open_simulator(SimulatorOptions(keys=keys, downloads_per_app=1)) as simulator:
        hold = faults.HeldAnswer()
        simulator.plan = lambda request: hold if request.bill_file_name == NAME else None
        leaving = asyncio.create_task(ask(http, simulator))
        await hold.reached.wait()
        leaving.cancel()

        while not (await ask(http, simulator, OTHER)).body.startswith(b"PK"):
            pass


@pytest.mark.parametrize("fault", [faults.Chunked(), faults.Reset(), faults.ResetBody()])
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "TLS"])
async def test_a_client_that_leaves_before_its_answer_is_no_defect(
    keys: Path, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, fault: Fault, plain: bool
) -> None:
    options = SimulatorOptions(keys=keys, plain=plain, downloads_per_app=1)
    async with open_simulator(options) as simulator:
        client = await asyncio.to_thread(connect, simulator)

        def leave(request: ReceivedRequest) -> Fault | None:
            if request.bill_file_name == NAME:
                reset_on_close(client)
                client.close()
                return fault
            return None

        simulator.plan = leave
        body = body_of(NAME)
        headers = [f"{name}: {value}" for name, value in signed(simulator, body).items()]
        request = "\r\n".join([f"POST {PATH} HTTP/1.1", *headers, "", ""]).encode() + body
        await asyncio.to_thread(client.sendall, request)

        while not (await ask(http, simulator, OTHER)).body.startswith(b"PK"):
            pass

    assert NAME in {request.bill_file_name for request in simulator.requests}
    assert not caplog.records


async def test_the_certificate_is_kept_with_its_state(keys: Path, tmp_path: Path) -> None:
    """Clients that trust it may go on doing so, until it is asked to be good for other names."""
    state = tmp_path / "state"

    async def ca(*names: str) -> bytes:
        async with open_simulator(SimulatorOptions(keys=keys, state=state, names=names)) as simulator:
            assert simulator.ca_file == state / "ca.pem"
            return simulator.ca_file.read_bytes()

    first = await ca("localhost")
    assert await ca("localhost") == first
    assert await ca("localhost", "ccfs.test") != first
    assert (state / "server.pem").stat().st_mode & 0o077 == 0
    (state / "server.pem").write_text("damaged")
    assert await ca("localhost")


async def test_the_certificate_is_good_for_its_names_only(keys: Path, http: aiohttp.ClientSession) -> None:
    async with open_simulator(SimulatorOptions(keys=keys, names=("elsewhere",))) as simulator:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(http, simulator)


async def test_http_gets_no_certificate(keys: Path, http: aiohttp.ClientSession) -> None:
    async with open_simulator(SimulatorOptions(keys=keys, plain=True)) as simulator:
        assert simulator.ca_file is None
        assert simulator.url.startswith("http://")
        assert (await ask(http, simulator)).status == 200


async def test_rates_above_one_together_are_refused(keys: Path) -> None:
    reset = FaultRate(faults.Reset(), 0.6)
    with pytest.raises(ValueError, match="must not exceed 1"):
        SimulatorOptions(keys=keys, faults=(reset, reset))
