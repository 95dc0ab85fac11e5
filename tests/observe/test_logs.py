"""What the log says, to machines and to people."""

import json
import os
import pty
import subprocess
import sys
from typing import Any

import aio_pika
import pytest

from schemas import DownloadCompleted
from tests.amqp import outside_channel
from tests.installation import APP, Site, bill
from worker.simulator.faults import HeldAnswer, ShortBody, StatusCode

TRACE = "0af7651916cd43dd8448eb211c80319c"
SCRIPT = """
import asyncio, logging
import structlog
from worker.observe import logs
logs.INTERVAL = 0.2
logs.configure(level="INFO", json={json})
log = structlog.stdlib.get_logger("worker.core.deliveries")
{body}
"""


def printed(body: str, *, json: bool = True) -> str:
    """What a process logs that does so."""
    command = [sys.executable, "-c", SCRIPT.format(body=body, json=json)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def lines(body: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(body).splitlines()]


async def test_one_grep_of_its_id_tells_the_story_of_a_job(site: Site) -> None:
    """An attempt that fails, one that succeeds; each line is in the trace of the job's publisher."""
    answers = iter([StatusCode(status=500)])
    site.simulator.plan = lambda _: next(answers, None)
    async with outside_channel(site.own_url) as channel:
        message = aio_pika.Message(
            site.body(bill(1)),
            message_id="m1",
            headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
            app_id="crm",
            user_id="guest",
        )
        site.ledger.publish("m1")
        await channel.default_exchange.publish(message, site.names.jobs)

    with site.worker(LOG__LEVEL="INFO") as worker:
        await site.settled()
        await worker.logged("job.settled", job_id="m1", ending="completed")
        story = [json.loads(line) for line in worker.log_file.read_text().splitlines() if '"m1"' in line]

    assert [line["event"] for line in story] == ["job.retried", "job.settled", "job.settled"]
    assert [line["attempt"] for line in story] == [1, 1, 2]
    assert {(line["trace_id"], line["app_id"], line["file"]) for line in story} == {(TRACE, APP, bill(1))}
    # A copy of the job may not have its publisher's `user_id`.
    assert {(line["publisher"], line["user"]) for line in story} == {("crm", "guest")}
    retried, _, settled = story
    assert (retried["code"], retried["http_status"]) == ("UPSTREAM_ERROR", 500)
    (event,) = site.messages["m1"]
    assert event.headers["traceparent"] == f"00-{TRACE}-{settled['span_id']}-01"


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colours_end_with_no_color(no_color: str, *, is_coloured: bool) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT.format(body="log.warning('seen')", json=False)]
    subprocess.run(command, stdout=theirs, env={**os.environ, "NO_COLOR": no_color}, check=True)
    shown = os.read(ours, 65_536).decode()
    os.close(theirs)
    os.close(ours)

    assert ("seen" in shown, "\x1b[" in shown) == (True, is_coloured)


async def test_the_line_of_a_job_has_its_outcome_and_its_times(site: Site) -> None:
    with site.worker(LOG__LEVEL="INFO") as worker:
        (job_id,) = await site.publish(bill(1))
        await site.settled()
        line = await worker.logged("job.settled", job_id=job_id)

    (outcome,) = site.ledger.outcomes[job_id]
    assert isinstance(outcome, DownloadCompleted)
    assert {name: line[name] for name in ("ending", "code", "reused", "redelivered", "joined")} == {
        "ending": "completed",
        "code": "",
        "reused": False,
        "redelivered": False,
        "joined": False,
    }
    assert (line["path"], line["size_bytes"]) == (outcome.path, outcome.size_bytes)
    assert line["answer_seconds"] + line["sync_seconds"] <= line["download_seconds"] + 0.002
    assert line["wait_seconds"] + line["download_seconds"] <= line["seconds"] + 0.002


async def test_the_line_of_a_job_that_failed_tells_how_far_it_came(site: Site) -> None:
    site.simulator.plan = lambda _: ShortBody()
    with site.worker(LOG__LEVEL="INFO", RETRY__DELAYS="[]") as worker:
        (job_id,) = await site.publish(bill(1))
        await site.settled()
        line = await worker.logged("job.settled", job_id=job_id)

    assert (line["level"], line["ending"], line["code"]) == ("info", "failed", "TRUNCATED")
    assert line["received_bytes"] <= line["announced_bytes"]
    assert "path" not in line


async def test_the_line_of_a_joined_job_has_the_downloads_times(site: Site) -> None:
    stuck = HeldAnswer()
    site.simulator.plan = lambda _: stuck
    with site.worker() as worker:
        await site.publish_raw([("first", site.body(bill(1)))])
        await stuck.reached.wait()
        await site.publish_raw([("second", site.body(bill(1)))])
        await worker.logged("job.joined", job_id="second")
        stuck.release.set()
        await site.settled()
        first, second = [await worker.logged("job.settled", job_id=name) for name in ("first", "second")]

    assert (first["joined"], second["joined"]) == (False, True)
    assert first["path"] == second["path"]
    assert first["download_seconds"] == second["download_seconds"] > 0


async def test_at_debug_each_step_has_its_line(site: Site) -> None:
    with site.worker(LOG__LEVEL="DEBUG") as worker:
        (job_id,) = await site.publish(bill(1))
        await site.settled()
        await worker.logged("job.settled", job_id=job_id)
        story = [json.loads(line) for line in worker.log_file.read_text().splitlines() if job_id in line]

    steps = ("received", "started", "answered", "stored", "published", "settled")
    assert [line["event"] for line in story] == [f"job.{step}" for step in steps]


def test_a_storm_of_warnings_is_a_burst_and_a_count() -> None:
    """Also when nothing is logged after it; another code has a burst of its own."""
    said = lines("""
async def storm():
    for _ in range(100):
        log.warning("job.retried", code="TIMEOUT")
    log.warning("job.retried", code="TRUNCATED")
    await asyncio.sleep(0.5)
asyncio.run(storm())
""")

    assert [line["code"] for line in said] == ["TIMEOUT"] * 20 + ["TRUNCATED", "TIMEOUT"]
    last = said[-1]
    assert (last["event"], last["of"], last["count"]) == ("log.suppressed", "job.retried", 80)


def test_the_lines_that_tell_of_a_job_are_never_kept_back() -> None:
    assert len(lines('[log.info("job.settled") for _ in range(100)]')) == 100


def test_a_line_has_time_level_event_and_fields() -> None:
    (line,) = lines('log.error("job.failed", code="TIMEOUT", path="a\\nb", bad="\\udcff")')
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "error",
        "event": "job.failed",
        "code": "TIMEOUT",
        "path": "a\nb",
        "bad": "\udcff",
        "logger": "worker.core.deliveries",
    }


def test_a_traceback_stays_on_its_line() -> None:
    (line,) = lines("""
try:
    1 / 0
except ZeroDivisionError:
    log.exception("job.defect")
""")
    assert (line["level"], line["exception"].splitlines()[-1]) == (
        "error",
        "ZeroDivisionError: division by zero",
    )


def test_the_libraries_lines_go_the_same_way() -> None:
    (line,) = lines('logging.getLogger("aiohttp.server").log(35, "hello %s", "x")')
    assert (line["event"], line["level"], line["logger"]) == ("hello x", "warning", "aiohttp.server")


def test_what_lies_below_the_level_is_not_written() -> None:
    assert printed('log.debug("x"); logging.getLogger("y").debug("z")') == ""


def test_commands_that_speak_for_themselves_have_no_log() -> None:
    script = """
import logging, structlog
from worker.observe import logs
log = structlog.stdlib.get_logger("worker.core.attempt")
logs.silence()
log.info("job.settled"); log.error("job.failed"); logging.getLogger("aiohttp").error("hello")
logs.configure(level="INFO", json=True)
log.info("worker.started")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["event"] == "worker.started"
    assert done.stderr == ""


def test_people_read_plain_lines() -> None:
    text = printed('log.warning("job.retried", code="TIMEOUT")', json=False)
    assert "job.retried" in text
    assert "code=TIMEOUT" in text
    assert "\x1b" not in text
