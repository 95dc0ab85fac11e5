"""The worker as a process: jobs in, files and outcomes out, against a real broker and CC-FS over TLS."""

import asyncio
import re
import signal
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import DownloadCompleted, DownloadFailed
from tests.amqp import outside_channel, put
from tests.installation import APP, Site, bill
from tests.malformed import MALFORMED
from tests.management import serving, silence
from worker.simulator import ReceivedRequest
from worker.simulator.faults import BadCrc, Fault, HeldAnswer, ResultCode, StatusCode

GIB = 1024**3
GRACE = {"SHUTDOWN_GRACE": "30"}


async def test_a_job_ends_in_a_file_and_an_event(site: Site) -> None:
    """The whole way, once, and every field of the event."""
    with site.worker() as worker:
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()
        await worker.logged("job.settled", job_id=job_id)

    assert counts.sound
    (event,) = site.ledger.outcomes[job_id]
    assert isinstance(event, DownloadCompleted)
    assert event.path == f"{APP}/20260131/{bill(1)}"
    assert event.size_bytes == (site.root / event.path).stat().st_size
    assert (event.app_id, event.bill_file_name, event.attempts, event.reused) == (APP, bill(1), 1, False)
    with zipfile.ZipFile(site.root / event.path) as archive:
        held = [(entry.filename, entry.file_size) for entry in archive.infolist()]
    assert [(entry.name, entry.size_bytes) for entry in event.entries] == held
    assert event.entry_count == len(held) > 0
    assert event.started_at <= event.finished_at
    (message,) = site.messages[job_id]
    assert message.routing_key == f"completed.{APP}"
    assert message.correlation_id == job_id
    assert site.leftovers() == []


async def test_a_management_api_that_hangs_delays_nothing(site: Site) -> None:
    """It is asked in the background; neither jobs nor the end of the worker wait for the answer."""
    is_asked = asyncio.Event()

    async def hang(_: bytes, writer: asyncio.StreamWriter) -> None:
        is_asked.set()
        await silence(b"", writer)

    async with serving(hang) as place:
        with site.worker(AMQP__MANAGEMENT_URL=f"http://user:hunter2@{place}/") as worker:
            await is_asked.wait()
            await site.publish(bill(1))
            counts = await site.settled()
            _, ready = await worker.get("/readyz")
            worker.signal(signal.SIGTERM)
            code = await worker.exited()

    assert (counts.sound, code) == (True, 0)
    assert not [line for line in worker.lines() if line["level"] in {"warning", "error"}]
    assert "hunter2" not in ready + worker.log_file.read_text()


async def test_a_file_that_is_there_is_not_downloaded_again(site: Site) -> None:
    with site.worker():
        await site.publish(bill(1))
        await site.settled()
        (again,) = await site.publish_raw([("again", site.body(bill(1)))])
        await site.settled()

    (event,) = site.ledger.outcomes[again]
    assert isinstance(event, DownloadCompleted)
    (first,) = (event for job, (event,) in site.ledger.outcomes.items() if job != again)
    assert isinstance(first, DownloadCompleted)
    assert event.reused
    assert event.entries == first.entries
    assert len(site.simulator.requests) == 1


async def test_a_damaged_file_that_is_there_is_replaced(site: Site) -> None:
    target = site.root / APP / "20260131" / bill(1)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"PK\x03\x04 half a file")

    with site.worker():
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()

    assert counts.sound
    (event,) = site.ledger.outcomes[job_id]
    assert isinstance(event, DownloadCompleted)
    assert not event.reused


@pytest.mark.timeout(180)
async def test_every_malformed_job_is_parked_and_the_queue_flows_on(site: Site) -> None:
    bodies = {name: malformed.body for name, malformed in MALFORMED.items()}
    with site.worker():
        await site.publish_raw(bodies.items())
        (good,) = await site.publish(bill(1))
        counts = await site.settled()

    assert (counts.failed, counts.completed, counts.duplicated) == (len(bodies), 1, 0)
    assert site.ledger.codes.pop(good) == ""
    for name, malformed in MALFORMED.items():
        (event,) = site.ledger.outcomes[name]
        assert isinstance(event, DownloadFailed)
        assert (event.error_code, event.app_id, event.bill_file_name) == (
            "INVALID_JOB",
            malformed.app_id,
            malformed.bill_file_name,
        ), name
        assert malformed.blames in event.error_message, name
    assert await site.queue_length(site.names.dead) == len(bodies)
    files = [path for path in site.root.rglob("*") if path.is_file()]
    assert files == [site.root / APP / "20260131" / bill(1)]


async def test_each_refusal_of_ccfs_has_its_code(site: Site) -> None:
    """What is hopeless is reported immediately, with CC-FS's own code."""
    answers: dict[str, tuple[Fault, str]] = {
        bill(1): (ResultCode(code="0300004"), "REQUEST_REJECTED"),
        bill(2): (ResultCode(code="0300013"), "REQUEST_REJECTED"),
        bill(3): (StatusCode(status=404), "REQUEST_REJECTED"),
        bill(4): (ResultCode(code="0300011"), "FILE_NOT_FOUND"),
        bill(5): (ResultCode(code="9999999"), "UPSTREAM_ERROR"),
        bill(6): (BadCrc(), "CORRUPT_ARCHIVE"),
        bill(7): (StatusCode(status=302), "UPSTREAM_ERROR"),
        bill(8): (StatusCode(status=401), "UNAUTHORIZED"),
    }
    site.simulator.plan = lambda request: answers[request.bill_file_name][0]

    with site.worker(RETRY__DELAYS="[0.05]", ACCOUNTS__HOLD_AT_MOST="0"):
        job_ids = await site.publish(*answers)
        await site.settled()

    assert [site.ledger.codes[job_id] for job_id in job_ids] == [code for _, code in answers.values()]
    events = [site.ledger.outcomes[job_id][0] for job_id in job_ids]
    assert all(isinstance(event, DownloadFailed) for event in events)
    details = [
        (event.result_code, event.http_status) for event in events if isinstance(event, DownloadFailed)
    ]
    assert details[:5] == [
        ("0300004", 200),
        ("0300013", 200),
        (None, 404),
        ("0300011", 200),
        ("9999999", 200),
    ]
    assert details[7] == (None, 401)
    assert [event.attempts for event in events] == [1, 1, 1, 2, 2, 2, 2, 1]
    assert await site.queue_length(site.names.dead) == 0


async def test_an_account_without_a_key_fails_immediately(site: Site) -> None:
    with site.worker():
        (job_id,) = await site.publish(bill(1), app_id="stranger")
        await site.settled()

    assert site.ledger.codes[job_id] == "UNKNOWN_APP"
    (event,) = site.ledger.outcomes[job_id]
    assert event.attempts == 1
    assert site.simulator.requests == []


async def test_a_passing_fault_is_tried_again_and_counted(site: Site) -> None:
    site.simulator.plan = lambda request: ResultCode(code="0300008") if request.count < 3 else None

    with site.worker() as worker:
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()
        await worker.logged("job.settled")
        _, metrics = await worker.get("/metrics")

    assert (counts.completed, counts.sound) == (1, True)
    assert site.ledger.outcomes[job_id][0].attempts == 3
    assert 'code="FLOW_CONTROL"' in metrics
    assert APP not in metrics


async def test_a_rotated_key_is_read_again_within_the_attempt(site: Site) -> None:
    """CC-FS has the new key first, and the worker finds it after a 401."""
    with site.worker():
        await site.publish(bill(1))
        await site.settled()

        def rotate(request: ReceivedRequest) -> Fault | None:
            site.add_key(APP, "rotated")
            return StatusCode(status=401) if request.count == 1 else None

        site.simulator.plan = rotate
        (job_id,) = await site.publish(bill(2))
        await site.settled()

    assert site.ledger.codes[job_id] == ""
    assert site.ledger.outcomes[job_id][0].attempts == 1


async def test_sigterm_lets_downloads_finish_and_takes_nothing_new(site: Site) -> None:
    holds = [HeldAnswer() for _ in range(4)]
    site.simulator.plan = lambda request: holds[int(request.bill_file_name[9:17])]
    with site.worker(CONCURRENCY="3", **GRACE) as worker:
        job_ids = await site.publish(*(bill(number) for number in range(4)))
        for hold in holds[:3]:
            await hold.reached.wait()

        worker.signal(signal.SIGTERM)
        await worker.logged("worker.draining")
        checks = await worker.readiness(503)
        for hold in holds:
            hold.release.set()
        assert await worker.exited() == 0

    assert checks["intake"]["detail"] == "draining"
    await site.until(lambda: len(site.ledger.outcomes) == 3)
    assert site.ledger.open_jobs == {job_ids[3]}
    assert len(site.simulator.requests) == 3
    with site.worker():
        assert (await site.settled()).sound


async def test_what_does_not_finish_in_time_is_given_back(site: Site) -> None:
    stuck = HeldAnswer()
    site.simulator.plan = lambda request: stuck if request.count == 1 else None
    with site.worker(SHUTDOWN_GRACE="0.2") as worker:
        await site.publish(bill(1))
        await stuck.reached.wait()
        worker.signal(signal.SIGINT)
        assert await worker.exited() == 0

    assert site.leftovers() == []
    assert await site.queue_length(site.names.jobs) == 1
    with site.worker():
        assert (await site.settled()).sound


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Under nohup all programs ignore SIGHUP, and the worker respects that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hears_hangups")
async def test_a_terminal_that_closes_drains_like_sigterm(site: Site) -> None:
    """Even if both it and its shell say so."""
    stuck = HeldAnswer()
    site.simulator.plan = lambda _: stuck
    with site.worker(**GRACE) as worker:
        await site.publish(bill(1))
        await stuck.reached.wait()
        worker.signal(signal.SIGHUP)
        await worker.logged("worker.draining", signal="SIGHUP")
        worker.signal(signal.SIGHUP)
        await worker.readiness(503)
        stuck.release.set()
        assert await worker.exited() == 0

    assert (await site.settled()).sound


async def test_a_second_signal_ends_the_worker_immediately(site: Site) -> None:
    stuck = HeldAnswer()
    site.simulator.plan = lambda request: stuck if request.count == 1 else None
    with site.worker(**GRACE) as worker:
        await site.publish(bill(1))
        await stuck.reached.wait()
        worker.signal(signal.SIGTERM)
        await worker.logged("worker.draining")
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 128 + signal.SIGTERM

    with site.worker():
        assert (await site.settled()).sound


async def test_a_job_of_a_trace_continues_it_in_its_event(site: Site) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers: dict[str, Any] = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "tracestate": "a=b"}
    with site.worker():
        site.ledger.publish("traced")
        async with outside_channel(site.own_url) as channel:
            await put(channel, site.names.jobs, site.body(bill(1)), message_id="traced", headers=headers)
        await site.settled()

    (message,) = site.messages["traced"]
    parent = str(message.headers["traceparent"])
    assert parent.startswith(f"00-{trace}-")
    assert parent.endswith("-01")
    assert "b7ad6b7169203331" not in parent
    assert message.headers["tracestate"] == "a=b"


async def test_two_thousand_jobs_survive_a_kill_in_the_middle(site: Site) -> None:
    """2,000 jobs of 64 KiB over TLS: 2,000 outcomes and 2,000 right files, whatever dies in between."""
    with site.worker(CONCURRENCY="16", LOG__LEVEL="INFO") as worker:
        await site.publish(*(bill(number) for number in range(2000)))
        await site.until(lambda: len(site.ledger.outcomes) >= 500)
        worker.kill()
        worker.start()
        counts = await site.settled()
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0

    assert counts.sound
    assert (counts.published, counts.completed) == (2000, 2000)
    # The killed worker's temporary files are the only traces; the sweep takes them when they are old.
    assert len(site.leftovers()) <= 16
    assert await asyncio.to_thread(lambda: sum(1 for _ in site.root.glob("*/*/*.zip"))) == 2000


@pytest.mark.parametrize("simulator_options", [GIB], indirect=True)
async def test_a_gigabyte_passes_in_little_memory(site: Site) -> None:
    """One file of 1 GiB, with the worker's peak under 120 MiB."""
    with site.worker() as worker:
        (job_id,) = await site.publish(bill(1))
        counts = await site.settled()
        peak = worker.peak_memory()

    assert counts.sound
    event = site.ledger.outcomes[job_id][0]
    assert isinstance(event, DownloadCompleted)
    assert event.size_bytes == GIB
    assert peak < 120 * 1024**2, f"{peak / 1024**2:.0f} MiB"


async def test_no_secret_shows_anywhere(site: Site) -> None:
    """Neither in the log at its most talkative, nor in events, metrics or probes."""
    secret = "k3y-of-the-account"
    site.add_key(APP, secret)
    refusals: list[Fault] = [
        StatusCode(status=500, text="you sent auth-v2/app1/2026-01-31T00:00:00Z/host/0123456789abcdef"),
        StatusCode(status=401),
        ResultCode(code="0300004"),
        BadCrc(),
    ]
    site.simulator.plan = lambda request: refusals[int(request.bill_file_name[9:17])]
    with site.worker(RETRY__DELAYS="[0.05]", ACCOUNTS__HOLD_AT_MOST="0") as worker:
        await site.publish(*(bill(number) for number in range(len(refusals))))
        await site.publish_raw([("unreadable", b"{")])
        await site.settled()
        _, metrics = await worker.get("/metrics")
        _, readiness = await worker.get("/readyz")
        log = worker.log_file.read_text()

    events = [message.body.decode() for messages in site.messages.values() for message in messages]
    shown = "\n".join([log, metrics, readiness, *events])
    assert secret not in shown
    assert "guest:guest" not in shown
    assert "0123456789abcdef" not in shown
    assert not re.search(r"auth-v2/[^*]", shown)
