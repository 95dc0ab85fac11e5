"""Each fault as a client sees it on the wire."""

import asyncio
import gzip
import io
import json
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from tests.simulator.calls import NOW, Call, call, file_of, post
from worker.simulator import Fault, Simulator, SimulatorOptions, faults, open_simulator

FILE_HEAD = ["HTTP/1.1 200 OK", "Content-Type: Application/Octet-stream;charset=UTF-8"]
SIZE = 65536

Ask = Callable[[Fault | None], Awaitable[Call]]


@pytest.fixture
async def plain(keys: Path) -> AsyncIterator[Simulator]:
    """A simulator without TLS, so that a test sees its bytes."""
    async with open_simulator(SimulatorOptions(keys=keys, plain=True, clock=lambda: NOW)) as simulator:
        yield simulator


@pytest.fixture
async def ask(plain: Simulator) -> AsyncIterator[Ask]:
    """Asks for a file whose answer has a fault."""
    async with AsyncExitStack() as calls:
        yield lambda fault: calls.enter_async_context(call(plain, fault))


async def test_without_a_fault_the_file_comes_as_ccfs_sends_it(plain: Simulator, ask: Ask) -> None:
    caller = await ask(None)

    assert (await caller.head())[:3] == [*FILE_HEAD, f"Content-Length: {SIZE}"]
    assert await caller.rest() == file_of(plain)


@pytest.mark.parametrize("code", ["0300008", "0300011", "0399999"])
async def test_a_result_code_comes_with_status_200(ask: Ask, code: str) -> None:
    caller = await ask(faults.ResultCode(code=code))

    assert (await caller.head())[0] == "HTTP/1.1 200 OK"
    body = json.loads(await caller.rest())
    assert body["resultCode"] == body["response"]["resultCode"] == code
    assert body["resultDesc"] == body["response"]["resultMsg"] != ""
    assert body["resultData"] == {}


@pytest.mark.parametrize("fault", [faults.StatusCode(status=503), faults.Waf(status=503)])
async def test_a_status_is_that_of_the_answer(ask: Ask, fault: Fault) -> None:
    caller = await ask(fault)

    head = await caller.head()
    assert head[0] == "HTTP/1.1 503 Service Unavailable"
    assert not any(line.startswith("Retry-After") for line in head)


async def test_retry_after_comes_in_seconds(ask: Ask) -> None:
    caller = await ask(faults.StatusCode(status=429, retry_after=7))

    assert "Retry-After: 7" in await caller.head()


async def test_retry_after_comes_as_a_date(ask: Ask) -> None:
    caller = await ask(faults.StatusCode(status=429, retry_date=7))

    (header,) = (line for line in await caller.head() if line.startswith("Retry-After: "))
    assert parsedate_to_datetime(header.removeprefix("Retry-After: ")) == NOW + timedelta(seconds=7)


async def test_a_firewalls_page_is_html(ask: Ask) -> None:
    caller = await ask(faults.Waf())

    head = await caller.head()
    assert head[0] == "HTTP/1.1 403 Forbidden"
    assert head[1].startswith("Content-Type: text/html")


async def test_a_reset_comes_before_any_byte(ask: Ask) -> None:
    caller = await ask(faults.Reset())

    with pytest.raises(ConnectionResetError):
        await caller.read(1)


async def test_a_reset_in_mid_body_comes_after_that_part_of_it(plain: Simulator, ask: Ask) -> None:
    caller = await ask(faults.ResetBody(at=0.25))

    assert f"Content-Length: {SIZE}" in await caller.head()
    assert await caller.read(SIZE // 4) == file_of(plain)[: SIZE // 4]
    with pytest.raises(ConnectionResetError):
        await caller.rest()


async def test_a_short_body_ends_in_good_order_before_its_length(plain: Simulator, ask: Ask) -> None:
    caller = await ask(faults.ShortBody())

    assert f"Content-Length: {SIZE}" in await caller.head()
    assert await caller.rest() == file_of(plain)[: SIZE // 2]


async def test_a_long_body_goes_on_after_its_length(plain: Simulator, ask: Ask) -> None:
    caller = await ask(faults.LongBody())

    assert f"Content-Length: {SIZE}" in await caller.head()
    assert await caller.read(SIZE) == file_of(plain)
    assert await caller.rest() != b""


async def test_a_chunked_file_is_whole_and_its_length_not_announced(plain: Simulator, ask: Ask) -> None:
    caller = await ask(faults.Chunked())

    head = await caller.head()
    assert "Transfer-Encoding: chunked" in head
    assert not any(line.startswith("Content-Length") for line in head)
    assert (await caller.rest()).endswith(file_of(plain)[-1000:] + b"\r\n0\r\n\r\n")


async def test_a_chunked_cut_lacks_the_last_chunk(plain: Simulator, ask: Ask) -> None:
    caller = await ask(faults.ChunkedCut())

    assert "Transfer-Encoding: chunked" in await caller.head()
    body = await caller.rest()
    assert file_of(plain)[:1000] in body
    assert not body.endswith(b"0\r\n\r\n")


async def test_a_drip_brings_the_whole_file_slowly(plain: Simulator, ask: Ask) -> None:
    """What is half a second's worth takes nearly half a second, or longer on a busy machine."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    caller = await ask(faults.Drip(rate=2 * SIZE))

    await caller.head()
    assert await caller.rest() == file_of(plain)
    assert loop.time() - started > 0.4


async def test_silence_is_no_byte_and_no_end(ask: Ask) -> None:
    caller = await ask(faults.Silence())

    assert await caller.is_silent()


async def test_a_stall_is_silence_in_mid_body(ask: Ask) -> None:
    caller = await ask(faults.Stall(at=0))

    assert f"Content-Length: {SIZE}" in await caller.head()
    assert await caller.read(1) == b"P"
    assert await caller.is_silent()


async def test_slow_headers_never_end(ask: Ask) -> None:
    caller = await ask(faults.SlowHeaders())

    assert await caller.read(len("HTTP/1.1 200 OK\r\nX-Slow: xxx")) == b"HTTP/1.1 200 OK\r\nX-Slow: xxx"


async def test_a_bad_crc_is_in_a_whole_zip(ask: Ask) -> None:
    caller = await ask(faults.BadCrc())

    assert f"Content-Length: {SIZE}" in await caller.head()
    body = await caller.rest()
    assert len(body) == SIZE
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert (archive.testzip() or "").endswith("_call_2.csv")


@pytest.mark.parametrize("fault", [faults.NotZip(), faults.Empty(), faults.JsonAsZip()])
async def test_what_is_no_zip_has_a_zips_content_type(ask: Ask, fault: Fault) -> None:
    caller = await ask(fault)

    head = await caller.head()
    assert head[:2] == FILE_HEAD
    body = await caller.rest()
    assert f"Content-Length: {len(body)}" in head
    assert not body.startswith(b"PK")


async def test_a_redirect_names_another_host(ask: Ask) -> None:
    caller = await ask(faults.Redirect(status=307))

    head = await caller.head()
    assert head[0] == "HTTP/1.1 307 Temporary Redirect"
    assert "Location: https://elsewhere.invalid/" in head


async def test_gzip_holds_the_file_and_says_so(keys: Path, http: aiohttp.ClientSession) -> None:
    async with open_simulator(SimulatorOptions(keys=keys)) as simulator:
        simulator.plan = lambda _: faults.Gzip()
        answer = await post(http, simulator)

        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.body) == file_of(simulator)


async def test_a_huge_error_is_as_huge_as_told(ask: Ask) -> None:
    caller = await ask(faults.HugeError(size=200_001))

    head = await caller.head()
    assert head[0] == "HTTP/1.1 500 Internal Server Error"
    assert "Content-Length: 200001" in head
    assert len(await caller.rest()) == 200_001


async def test_huge_headers_come_in_one_line(ask: Ask) -> None:
    caller = await ask(faults.HugeHeaders(size=100_000))

    assert max(map(len, await caller.head())) > 100_000


async def test_a_huge_chunk_header_stands_before_the_data(ask: Ask) -> None:
    caller = await ask(faults.HugeChunkHeader(size=100_000))

    assert "Transfer-Encoding: chunked" in await caller.head()
    assert await caller.rest() == b"2;" + b"x" * 100_000 + b"\r\nPK\r\n0\r\n\r\n"


async def test_oversized_announces_more_than_it_has(plain: Simulator, ask: Ask) -> None:
    caller = await ask(faults.Oversized())

    assert f"Content-Length: {1024**4}" in await caller.head()
    assert await caller.rest() == file_of(plain)


async def test_an_endless_body_goes_on_after_the_file(ask: Ask) -> None:
    caller = await ask(faults.Endless())

    assert "Transfer-Encoding: chunked" in await caller.head()
    assert len(await caller.read(5 * SIZE)) == 5 * SIZE


async def test_garbage_is_not_http(ask: Ask) -> None:
    caller = await ask(faults.Garbage())

    assert not (await caller.rest()).startswith(b"HTTP")


@pytest.mark.parametrize("before_headers", [True, False])
async def test_a_hold_waits_until_it_is_released(plain: Simulator, ask: Ask, *, before_headers: bool) -> None:
    hold = faults.HeldAnswer(before_headers=before_headers)
    caller = await ask(hold)

    await hold.reached.wait()
    received = b""
    if not before_headers:
        await caller.head()
        received = await caller.read(SIZE // 2)
    assert await caller.is_silent()
    hold.release.set()
    if before_headers:
        await caller.head()
    assert received + await caller.rest() == file_of(plain)


@pytest.mark.parametrize("fault", [faults.Reset(), faults.ResetBody(), faults.ShortBody(), faults.Garbage()])
async def test_faults_come_through_tls(
    simulator: Simulator, http: aiohttp.ClientSession, fault: Fault
) -> None:
    """What breaks a connection breaks an encrypted one."""
    simulator.plan = lambda _: fault

    with pytest.raises(aiohttp.ClientError):
        await post(http, simulator)
