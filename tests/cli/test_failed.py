"""`failed`: jobs that failed, listed, shown, tried again and forgotten, and none ever lost."""

import asyncio
import json
import signal
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import typer
from aio_pika import Message

from schemas import DownloadCompleted, FailedJob
from tests.amqp import outside_channel
from tests.cli.conftest import Run, following, json_lines
from tests.installation import APP, Site, bill
from worker.broker.connection import open_connection
from worker.broker.failed_jobs import Held, open_failed_jobs
from worker.cli.kept import Walk
from worker.cli.selection import Selection
from worker.simulator.faults import ResultCode

_IDS = count()


def ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def failure(number: int, *, code: str = "UNAUTHORIZED", app_id: str = APP, hours: float = 1.0) -> FailedJob:
    job = {"appId": app_id, "billFileName": bill(number), "note": f"n{number}"}
    return FailedJob.model_validate_json(
        json.dumps(
            {
                "status": "failed",
                "jobId": f"m{number}",
                "appId": app_id,
                "billFileName": bill(number),
                "errorCode": code,
                "errorMessage": f"reason {number}",
                "resultCode": None,
                "httpStatus": 401,
                "attempts": 1,
                "startedAt": ago(hours).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "finishedAt": ago(hours).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "worker": "w",
                "job": json.dumps(job),
            }
        )
    )


async def keep(site: Site, failures: Iterable[FailedJob | bytes], **properties: Any) -> None:
    """Put failed jobs where a worker keeps them."""
    async with outside_channel(site.own_url) as channel:
        waiting = [
            channel.default_exchange.publish(
                Message(
                    one if isinstance(one, bytes) else one.to_json(),
                    message_id=f"event-{next(_IDS)}",
                    type="download.failed",
                    delivery_mode=2,
                    **properties,
                ),
                site.names.failed or "",
            )
            for one in failures
        ]
        await asyncio.gather(*waiting)


KEPT = (
    failure(1, code="FILE_NOT_FOUND", app_id="app2", hours=50),
    failure(2, hours=3),
    failure(3, hours=0),
)


async def kept_ids(site: Site) -> list[str]:
    """Which failed jobs are kept."""
    async with (
        open_connection(site.own_url, name="test", heartbeat=10, timeout=10, tls=None) as opened,
        open_failed_jobs(opened, site.names, timeout=10) as jobs,
    ):
        return sorted([held.kept.job_id async for held in jobs.take(jobs.count)])


async def test_the_list_is_a_table_with_the_newest_last(site: Site, run: Run) -> None:
    await keep(site, KEPT)

    listed = await run("failed", "list")

    rows = [line.split() for line in listed.stdout.splitlines()]
    assert rows[0] == ["JOB", "CODE", "ACCOUNT", "FILE", "AGE", "MESSAGE"]
    assert rows[1] == ["m1", "FILE_NOT_FOUND", "app2", bill(1), "2d", "reason", "1"]
    assert [row[0] for row in rows[2:]] == ["m2", "m3"]
    assert "3 of 3 failed jobs: 2 UNAUTHORIZED, 1 FILE_NOT_FOUND; of 2 app1, 1 app2" in listed.stderr
    assert await kept_ids(site) == ["m1", "m2", "m3"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--code", "UNAUTHORIZED"), ["m2", "m3"]),
        (("--app", "app2"), ["m1"]),
        (("--since", "4h"), ["m2", "m3"]),
        (("--since", "2026-01-31T22:00Z"), ["m1", "m2", "m3"]),
        (("--older-than", "2h"), ["m1", "m2"]),
        (("--since", "4h", "--older-than", "2h"), ["m2"]),
        (("--limit", "1"), ["m3"]),
    ],
)
async def test_the_list_can_be_narrowed(
    site: Site, run: Run, arguments: tuple[str, ...], wanted: list[str]
) -> None:
    await keep(site, KEPT)

    listed = await run("failed", "list", *arguments, "--output", "json")

    assert [failed["jobId"] for failed in json_lines(listed.stdout)] == wanted


async def test_a_failed_job_is_shown_whole(site: Site, run: Run) -> None:
    await keep(
        site, KEPT, headers={"x-tenant": "blue", "x-published-by": "upstream"}, priority=7, app_id="crm"
    )

    shown = await run("failed", "show", "m2")
    as_json = await run("failed", "show", "m2", "--output", "json")

    facts = dict(line.split(None, 1) for line in shown.stdout.splitlines() if not line.startswith(" "))
    assert (facts["job"], facts["message"], facts["priority"]) == ("m2", "reason 2", "7")
    assert facts["code"].startswith("UNAUTHORIZED (")
    assert facts["publisher"] == "crm"
    assert "header x-published-by  upstream" in shown.stdout
    assert '    "note": "n2"' in shown.stdout
    (fields,) = json_lines(as_json.stdout)
    assert (fields["errorCode"], fields["headers"]["x-tenant"]) == ("UNAUTHORIZED", "blue")


async def test_a_retried_job_is_the_one_that_failed(site: Site, run: Run) -> None:
    """With its id, its body to the byte, and its publisher's headers and priority."""
    site.simulator.plan = lambda _: ResultCode(code="0300004")
    body = b'{"billFileName":"20260131_1.zip", "appId": "app1", "note": "caf\xc3\xa9"}'
    async with outside_channel(site.own_url) as upstream:
        job = Message(
            body, message_id="m1", correlation_id="c1", headers={"x-weight": 2.5}, priority=2, app_id="crm"
        )
        await upstream.default_exchange.publish(job, site.names.jobs)
    with site.worker() as worker:
        await worker.logged("job.settled", job_id="m1")

    retried = await run("failed", "retry", "m1")

    assert (retried.returncode, retried.stdout) == (0, "✓ m1 (REQUEST_REJECTED) retried\n")
    again = await site.take(site.names.jobs)
    assert (again.body, again.message_id, again.correlation_id) == (body, "m1", "c1")
    assert (again.priority, again.app_id, again.type) == (2, "crm", None)
    headers = {name: value for name, value in again.headers.items() if name.startswith("x-w")}
    assert headers == {"x-weight": 2.5}
    assert await kept_ids(site) == []


async def test_what_failed_completes_once_its_cause_is_gone(site: Site, run: Run) -> None:
    site.simulator.plan = lambda _: ResultCode(code="0300004")
    with site.worker() as worker:
        await site.publish(*map(bill, range(20)))
        await site.settled()
        # Killed, it could leave a job whose event is out and whose entry is not: that job would fail again.
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    assert {outcome.status for (outcome,) in site.ledger.outcomes.values()} == {"failed"}

    site.simulator.plan = lambda _: None
    retried = await run("failed", "retry", "--code", "REQUEST_REJECTED", "--app", APP)
    assert "20 jobs published" in retried.stderr
    with site.worker():
        await site.until(lambda: all(len(outcomes) == 2 for outcomes in site.ledger.outcomes.values()))

    assert {outcomes[1].status for outcomes in site.ledger.outcomes.values()} == {"completed"}
    assert await kept_ids(site) == []


async def test_a_dry_run_publishes_and_removes_nothing(site: Site, run: Run) -> None:
    await keep(site, KEPT)

    dry = await run("failed", "retry", "--all", "--dry-run", "--output", "json")
    forgotten = await run("failed", "forget", "--all", "--dry-run", "--output", "json")

    assert {line["action"] for line in json_lines(dry.stdout)} == {"would be retried"}
    assert {line["action"] for line in json_lines(forgotten.stdout)} == {"would be forgotten"}
    assert await kept_ids(site) == ["m1", "m2", "m3"]
    assert await site.queue_length(site.names.jobs) == 0


async def test_what_completed_since_is_left_out(site: Site, run: Run) -> None:
    """By its file, or by an event that is later than the failure."""
    await keep(site, (failure(1, hours=3), failure(2, hours=3), failure(3, hours=3), failure(4, hours=3)))
    folder = site.root / APP / "20260131"
    folder.mkdir(parents=True)
    (folder / bill(1)).write_bytes(b"a bill")
    events = "".join(f"{completed(number, hours)}\n" for number, hours in ((2, 2.0), (3, 4.0)))

    retried = await run("failed", "retry", "--all", "--outcomes", "-", typed=f"no event\n{events}")
    completed_since = await run(
        "failed", "forget", "--all", "--completed", "--yes", "--outcomes", "-", typed=events
    )

    assert "2 jobs published" in retried.stderr
    assert "2 jobs completed since and left out" in retried.stderr
    assert {(await site.take(site.names.jobs)).message_id for _ in range(2)} == {"m3", "m4"}
    assert "2 failed jobs forgotten" in completed_since.stderr
    assert await kept_ids(site) == []


def completed(number: int, hours: float) -> str:
    moment = ago(hours).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {
        "status": "completed",
        "jobId": f"m{number}",
        "appId": APP,
        "billFileName": bill(number),
        "path": f"{APP}/20260131/{bill(number)}",
        "sizeBytes": 1,
        "sha256": "0" * 64,
        "entries": [],
        "entryCount": 0,
        "attempts": 1,
        "reused": False,
        "startedAt": moment,
        "finishedAt": moment,
        "worker": "w",
    }
    return DownloadCompleted.model_validate_json(json.dumps(fields)).model_dump_json(by_alias=True)


async def test_without_the_storage_it_says_that_files_are_not_seen(site: Site, run: Run) -> None:
    await keep(site, KEPT)

    retried = await run("failed", "retry", "--all", STORAGE__ROOT="")

    assert "files are not looked at: WORKER_STORAGE__ROOT" in retried.stderr
    assert "3 jobs published" in retried.stderr


async def test_a_job_that_failed_twice_is_published_once(site: Site, run: Run) -> None:
    await keep(site, (failure(1, hours=3), failure(1, hours=2)))

    retried = await run("failed", "retry", "--all", "--limit", "2")

    assert "1 job published" in retried.stderr
    assert await site.queue_length(site.names.jobs) == 1
    assert await kept_ids(site) == []


@pytest.mark.parametrize(
    "body", [b"\xff nonsense \x1b[31m", failure(9).model_copy(update={"job": None}).to_json()]
)
async def test_what_cannot_be_published_stays_until_forgotten(site: Site, run: Run, body: bytes) -> None:
    await keep(site, (body, failure(2)))

    listed = await run("failed", "list")
    retried = await run("failed", "retry", "--all")

    assert "\x1b" not in listed.stdout + retried.stderr
    assert retried.returncode == 1
    assert "1 job published" in retried.stderr
    assert "stays where it is" in retried.stderr
    assert len(await kept_ids(site)) == 1
    assert (await run("failed", "forget", "--all", "--yes")).returncode == 0
    assert await kept_ids(site) == []


async def test_a_job_that_the_broker_does_not_take_stays(site: Site, run: Run) -> None:
    await keep(site, KEPT)
    await site.delete_jobs_queue()

    retried = await run("failed", "retry", "--all")

    assert retried.returncode == 3
    assert "no queue takes" in retried.stderr
    assert "0 jobs published" in retried.stderr
    assert await kept_ids(site) == ["m1", "m2", "m3"]


async def test_forgetting_asks_first(site: Site, run: Run) -> None:
    await keep(site, KEPT)

    refused = await run("failed", "forget", "--code", "UNAUTHORIZED", typed="n\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Forget 2 failed jobs for good?" in refused.stderr
    forgotten = await run("failed", "forget", "--code", "UNAUTHORIZED", typed="y\n")

    assert forgotten.returncode == 0
    assert await kept_ids(site) == ["m1"]


@pytest.mark.parametrize("command", ["retry", "forget"])
async def test_nothing_is_done_to_all_unless_that_is_said(run: Run, command: str) -> None:
    refused = await run("failed", command)

    assert refused.returncode == 2
    assert "or else --all" in refused.stderr


async def test_a_job_that_is_not_there_is_named(site: Site, run: Run) -> None:
    await keep(site, KEPT)

    retried = await run("failed", "retry", "m2", "m9")

    assert retried.returncode == 1
    assert "m9: no such job failed" in retried.stderr
    assert await kept_ids(site) == ["m1", "m3"]


async def test_a_kill_while_retrying_loses_none(site: Site) -> None:
    """Each job is in one of the two queues; at most some are in both."""
    await keep(site, [failure(number) for number in range(800)])
    async with following(
        site, "failed", "retry", "--all", "--rate", "200", "--output", "json", until="", STORAGE__ROOT="/"
    ) as retrying:
        for _ in range(100):
            await retrying.line()
        retrying.process.kill()
        await retrying.ended()

    jobs = await drained(site, site.names.jobs)
    left = await kept_ids(site)
    assert set(jobs) | set(left) == {f"m{number}" for number in range(800)}
    assert len(jobs) >= 100
    assert len(jobs) == len(set(jobs))


async def drained(site: Site, queue: str) -> Sequence[str]:
    """Take all that lies in a queue; gives the ids."""
    async with outside_channel(site.own_url) as channel:
        held = await channel.get_queue(queue)
        found: list[str] = []
        while message := await held.get(fail=False):
            found.append(message.message_id or "")
            await message.ack()
        return found


async def test_a_walk_that_takes_long_gives_back_and_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ closes the channel of a message that is held for long."""
    await keep(site, [failure(number) for number in range(100)])
    for name, value in site.settings().items():
        monkeypatch.setenv(name, value)
    met: list[str] = []

    async def forget_most(held: Held) -> bool:
        met.append(held.kept.job_id)
        if held.kept.job_id != "m3":
            held.forget()
        return True

    walk = Walk(Selection(), forget_most, hold_at_most=0)
    await walk.run()

    assert (walk.in_all, walk.done, sorted(met)) == (100, 100, sorted(f"m{number}" for number in range(100)))
    assert await kept_ids(site) == ["m3"]


async def test_a_walk_that_did_not_see_all_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is looked at and left is held to the end, which no more than some minutes may pass before."""
    await keep(site, [failure(number) for number in range(100)])
    for name, value in site.settings().items():
        monkeypatch.setenv(name, value)

    async def leave(_: Held) -> bool:
        return True

    walk = Walk(Selection(), leave, hold_at_most=0)
    await walk.run()

    with pytest.raises(typer.Exit) as ended:
        walk.require_complete()
    assert ended.value.exit_code == 1
    assert "not all were looked at" in capsys.readouterr().err
    assert 0 < walk.meant < 100


async def test_failures_are_kept_while_an_operator_looks(site: Site, run: Run) -> None:
    await keep(site, [failure(number) for number in range(200)])
    async with following(
        site, "failed", "retry", "--all", "--rate", "0.05", "--output", "json", until="", STORAGE__ROOT="/"
    ) as retrying:
        await retrying.line()
        await keep(site, [failure(1000)])
        second = await run("failed", "retry", "--all")
        assert (second.returncode, second.stdout) == (3, "")
        assert "another operator is looking" in second.stderr
        retrying.interrupt()
        assert await retrying.ended() == 130

    left = await kept_ids(site)
    assert "m1000" in left
    assert len(left) + await site.queue_length(site.names.jobs) >= 201


async def test_without_a_queue_of_failed_jobs_it_says_so(site: Site, run: Run) -> None:
    off = await run("failed", "list", AMQP__FAILED_KEEP="0")
    async with outside_channel(site.own_url) as channel:
        await channel.queue_delete(site.names.failed or "")
    missing = await run("failed", "list")

    assert (off.returncode, missing.returncode) == (3, 3)
    assert "WORKER_AMQP__FAILED_KEEP is 0: no failed jobs are kept" in off.stderr
    assert f"the queue {site.names.failed} does not exist: a worker makes it" in missing.stderr
