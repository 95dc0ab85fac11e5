"""A CC-FS that breaks off, lies, stalls, storms or is not there: every job ends as it should."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from random import Random

import pytest

from devkit.run.worker_process import WorkerProcess
from schemas import DownloadFailed
from tests.faults.proxy import Proxy, open_proxy
from tests.installation import APP, Site, bill
from worker.simulator import Fault
from worker.simulator.faults import (
    BadCrc,
    ChunkedCut,
    Drip,
    Empty,
    Garbage,
    Gzip,
    HugeError,
    JsonAsZip,
    LongBody,
    NotZip,
    Oversized,
    Redirect,
    Reset,
    ResetBody,
    ResultCode,
    ShortBody,
    Silence,
    Stall,
    StatusCode,
    Waf,
)

PASSING: dict[str, Fault] = {
    "reset before an answer": Reset(),
    "reset in mid-body": ResetBody(),
    "short body": ShortBody(),
    "chunked and cut": ChunkedCut(),
    "silence": Silence(),
    "stall in mid-body": Stall(),
    "wrong CRC": BadCrc(),
    "not a zip": NotZip(),
    "no byte": Empty(),
    "JSON under the zip's content type": JsonAsZip(code="0300012"),
    "redirect": Redirect(),
    "gzip": Gzip(),
    "not HTTP": Garbage(),
    "firewall's page": Waf(status=403),
    "endless error": HugeError(),
    "more announced than sent": Oversized(announced=1024**3),
    "flow control": ResultCode(code="0300008"),
    "bad gateway": StatusCode(status=502),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
async def test_a_passing_fault_costs_one_attempt(site: Site, fault: Fault) -> None:
    """The first request meets it, the second one is served: one completed event, two attempts."""
    site.simulator.plan = lambda request: fault if request.count == 1 else None
    with site.worker(CCFS__IDLE_TIMEOUT="0.5", RETRY__DELAYS="[0.05, 0.05]"):
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 2
    assert site.leftovers() == []


async def test_more_bytes_than_announced_are_not_taken(site: Site) -> None:
    """What was announced is the file; where the rest comes in the same read, the answer is no HTTP."""
    site.simulator.plan = lambda request: LongBody() if request.count == 1 else None
    with site.worker(RETRY__DELAYS="[0.05]"):
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts in {1, 2}


async def test_a_drip_is_waited_for_until_the_jobs_deadline(site: Site) -> None:
    """Bytes that keep coming are no silence: only the deadline of the whole job ends them."""
    site.simulator.plan = lambda request: Drip(rate=20_000) if request.count == 1 else Drip(rate=1_000_000)
    with site.worker(CCFS__IDLE_TIMEOUT="1", JOB_TIMEOUT="1.5", RETRY__DELAYS="[0.05]") as worker:
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()
        await worker.logged("job.retried", code="TIMEOUT")

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 2


async def test_a_file_slower_than_the_deadline_is_its_own_trouble(site: Site) -> None:
    """CC-FS answers: each deadline counts as an attempt, and intake goes on, as early as it would pause."""
    site.simulator.plan = lambda request: Drip(rate=2_000) if request.bill_file_name == bill(1) else None
    settings = {"CCFS__PAUSE_AFTER": "1", "JOB_TIMEOUT": "1", "RETRY__DELAYS": "[0.05, 0.05]"}
    with site.worker(**settings) as worker:
        slow, quick = await site.publish(bill(1), bill(2))
        counts = await site.settled()

    assert (counts.completed, counts.failed, counts.sound) == (1, 1, True)
    (outcome,) = site.ledger.outcomes[slow]
    assert outcome.status == "failed"
    assert (outcome.error_code, outcome.http_status, outcome.attempts) == ("TIMEOUT", 200, 3)
    assert site.ledger.outcomes[quick][0].attempts == 1
    assert not [line for line in worker.lines() if line["event"] in {"upstream.silent", "intake.paused"}]


async def test_a_fault_that_does_not_pass_ends_in_its_code(site: Site) -> None:
    faults: dict[str, tuple[Fault, str]] = {
        bill(1): (ShortBody(), "TRUNCATED"),
        bill(2): (BadCrc(), "CORRUPT_ARCHIVE"),
        bill(3): (Stall(), "TIMEOUT"),
        bill(4): (Redirect(), "UPSTREAM_ERROR"),
        bill(5): (Gzip(), "UPSTREAM_ERROR"),
        bill(6): (Waf(status=502), "FLOW_CONTROL"),
        bill(7): (JsonAsZip(code="0300011"), "FILE_NOT_FOUND"),
    }
    site.simulator.plan = lambda request: faults[request.bill_file_name][0]
    with site.worker(CCFS__IDLE_TIMEOUT="0.5", RETRY__DELAYS="[0.05, 0.05]"):
        job_ids = await site.publish(*faults)
        counts = await site.settled()

    assert [site.ledger.codes[job_id] for job_id in job_ids] == [code for _, code in faults.values()]
    assert (counts.failed, counts.sound) == (len(faults), True)
    assert all(site.ledger.outcomes[job_id][0].attempts == 3 for job_id in job_ids)
    assert list(site.root.glob("*/*/*")) == []


@pytest.mark.parametrize(
    "seconds", [pytest.param(3, id="3s"), pytest.param(60, id="60s", marks=pytest.mark.whole)]
)
async def test_a_ccfs_that_is_not_there(site: Site, seconds: float) -> None:
    """Intake pauses, readiness says why; when CC-FS is back all jobs are done, hardly an attempt burned."""
    with site.worker(CCFS__PAUSE_AFTER="3") as worker:
        await worker.readiness()
        await site.simulator.stop()
        job_ids = await site.publish(*(bill(number) for number in range(40)))
        checks = await worker.readiness(503)
        await asyncio.sleep(seconds)
        assert len(site.ledger.outcomes) == 0
        await site.simulator.start()
        counts = await site.settled()
        await worker.readiness()

    assert "CC-FS cannot be reached" in checks["intake"]["detail"]
    assert (counts.completed, counts.sound) == (40, True)
    burned = sum(site.ledger.outcomes[job_id][0].attempts - 1 for job_id in job_ids)
    assert burned < 3


@pytest.fixture
async def line(site: Site) -> AsyncIterator[Proxy]:
    """The line to CC-FS."""
    host, port = site.simulator.url.removeprefix("https://").split(":")
    async with open_proxy(host, int(port)) as proxy:
        yield proxy


async def test_a_line_to_ccfs_that_goes_silent(site: Site, line: Proxy) -> None:
    """A black hole is no answer either; one probe at a time is all that is sent into it."""
    with site.worker(
        CCFS__BASE_URL=f"https://127.0.0.1:{line.port}",
        CCFS__CONNECT_TIMEOUT="0.3",
        CCFS__IDLE_TIMEOUT="0.3",
        CCFS__PAUSE_AFTER="2",
    ) as worker:
        await worker.readiness()
        line.silence()
        await site.publish(*(bill(number) for number in range(20)))
        await worker.readiness(503)
        await worker.logged("upstream.silent", probes=1)
        calls = line.accepted
        await worker.logged("upstream.silent", probes=2)
        assert line.accepted - calls <= 1
        line.cut()
        line.speak()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (20, True)


async def test_a_flow_control_storm(site: Site) -> None:
    """Half of all answers say 0300008: the worker slows down for that account, and every job is done."""
    dice = Random(7)
    site.simulator.plan = lambda _: ResultCode(code="0300008") if dice.random() < 0.5 else None
    with site.worker(RETRY__DELAYS=str([0.1] * 12)):
        await site.publish(*(bill(number) for number in range(100)))
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (100, True)


async def test_the_firewall_narrows_the_window_and_successes_widen_it(site: Site) -> None:
    """The limit that operators see falls immediately and is whole again after a while of success."""
    site.simulator.plan = lambda request: StatusCode(status=502) if request.count < 3 else None
    with site.worker(CONCURRENCY="4") as worker:
        await site.publish(bill(1))
        await site.settled()
        # Halved twice, and grown by the success that followed.
        assert await limit_of(worker) == 2

        await site.publish(*(bill(number) for number in range(10, 30)))
        counts = await site.settled()
        assert await limit_of(worker) == 4

    assert (counts.completed, counts.sound) == (21, True)


async def limit_of(worker: WorkerProcess) -> float:
    _, metrics = await worker.get("/metrics")
    line = next(line for line in metrics.splitlines() if line.startswith("ccfs_worker_concurrency_limit "))
    return float(line.split()[1])


async def test_a_key_that_is_refused_until_it_is_rotated(site: Site) -> None:
    """Unless held, jobs with the old key fail; from the rotation on they are done, without a restart."""
    own = site.folder / "workers-keys"
    own.mkdir()
    (own / APP).write_text("the old one")
    with site.worker(CREDENTIALS__DIR=str(own), ACCOUNTS__HOLD_AT_MOST="0"):
        (refused,) = await site.publish(bill(1))
        await site.settled()
        fresh = own / ".fresh"
        fresh.write_text((site.keys / APP).read_text())
        fresh.replace(own / APP)
        (served,) = await site.publish(bill(2))
        counts = await site.settled()

    assert (site.ledger.codes[refused], site.ledger.codes[served]) == ("UNAUTHORIZED", "")
    assert site.ledger.outcomes[refused][0].attempts == 1
    assert counts.sound
    assert [request.answer for request in site.simulator.requests] == ["http-401", "http-401", "file"]


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_keeps_everybody_away(site: Site, form: str) -> None:
    """No request comes before the time is over, of whatever account."""
    site.add_key("other", "secret")
    busy = (
        StatusCode(status=429, retry_after=2) if form == "seconds" else StatusCode(status=429, retry_date=3)
    )
    site.simulator.plan = lambda request: busy if (request.app_id, request.count) == (APP, 1) else None
    with site.worker(RETRY__DELAYS="[0.1, 3]") as worker:
        await site.publish(bill(1))
        await worker.logged("intake.paused")
        await site.publish(bill(2), app_id="other")
        counts = await site.settled()

    first, *others = site.simulator.requests
    assert (counts.completed, counts.sound) == (2, True)
    # A date has whole seconds: asking for 3 s by date is asking for more than 2.
    assert all((other.received_at - first.received_at).total_seconds() >= 1.9 for other in others)


async def test_an_address_that_is_not_let_in_is_told(site: Site) -> None:
    """Nothing but 403 from the start: in the event, the log and the readiness, until something is let in."""
    site.simulator.plan = lambda _: StatusCode(status=403)
    asked = "is this address allowed there?"
    with site.worker(RETRY__DELAYS="[0.05]") as worker:
        (refused,) = await site.publish(bill(1))
        await site.settled()
        failed = await worker.logged("job.failed")
        status, readiness = await worker.get("/readyz")
        site.simulator.plan = lambda _: None
        await site.publish(bill(2))
        await site.settled()
        status_after, _ = await worker.get("/readyz")

    (event,) = site.ledger.outcomes[refused]
    assert isinstance(event, DownloadFailed)
    assert event.error_code == "FLOW_CONTROL"
    assert asked in event.error_message
    assert asked in failed["reason"]
    assert (status, status_after) == (503, 200)
    assert asked in readiness


async def test_a_refused_key_is_told_with_its_file_and_the_clock(site: Site) -> None:
    own = site.folder / "workers-keys"
    own.mkdir()
    (own / APP).write_text("the old one")
    os.utime(own / APP, (time.time() - 3 * 3600,) * 2)
    with site.worker(CREDENTIALS__DIR=str(own)) as worker:
        await site.publish(bill(1))
        line = await worker.logged("account.held")

    assert f"its key is in {own / APP}, which is 3 h old" in line["reason"]
    assert "the clocks here and there agree" in line["reason"]
