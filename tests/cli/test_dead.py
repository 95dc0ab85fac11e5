"""`dead`: parked messages listed, shown, replayed and discarded, and none ever lost."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aio_pika import Message

from schemas import DownloadCompleted
from tests.amqp import outside_channel
from tests.cli.conftest import Run, json_lines
from tests.installation import APP, Site, bill
from tests.raw_amqp import put_raw
from tests.shapes import SHAPES
from worker.broker.connection import open_connection
from worker.broker.dead_letters import open_dead_letters

Headers = dict[str, Any]


def hours_ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


PARKED: list[tuple[str, bytes, Headers]] = [
    ("old", b'{"appId": "app2"}', {"x-dead-reason": "INVALID_JOB", "x-dead-since": hours_ago(50)}),
    (
        "crashed",
        json.dumps({"appId": APP, "billFileName": bill(1)}).encode(),
        {"x-dead-reason": "DELIVERY_LIMIT", "x-dead-detail": "gave up", "x-dead-since": hours_ago(3)},
    ),
    ("odd", b"\xff\x1b[31m", {"x-dead-reason": "INVALID_JOB", "x-dead-since": hours_ago(0)}),
]


@pytest.fixture
async def parked(site: Site) -> Site:
    """A site with three parked messages: two that no worker could read and one that crashed some."""
    async with outside_channel(site.own_url) as channel:
        for message_id, body, headers in PARKED:
            message = Message(body, message_id=message_id, delivery_mode=2, headers=headers)
            await channel.default_exchange.publish(message, site.names.dead)
    return site


async def test_the_list_is_a_table_with_the_oldest_first(parked: Site, run: Run) -> None:
    listed = await run("dead", "list")

    rows = [line.split() for line in listed.stdout.splitlines()]
    assert listed.returncode == 0
    assert rows == [
        ["JOB", "REASON", "ACCOUNT", "FILE", "AGE", "DETAIL"],
        ["old", "INVALID_JOB", "app2", "-", "2d"],
        ["crashed", "DELIVERY_LIMIT", APP, bill(1), "3h", "gave", "up"],
        ["odd", "INVALID_JOB", "-", "-", rows[3][4]],
    ]
    assert "3 of 3 parked messages: 2 INVALID_JOB, 1 DELIVERY_LIMIT" in listed.stderr
    assert await parked.queue_length(parked.names.dead) == 3


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--reason", "INVALID_JOB"), ["old", "odd"]),
        (("--app", APP), ["crashed"]),
        (("--app", APP, "--app", "app2"), ["old", "crashed"]),
        (("--older-than", "2h"), ["old", "crashed"]),
        (("--older-than", "2d", "--reason", "DELIVERY_LIMIT"), []),
    ],
)
@pytest.mark.usefixtures("parked")
async def test_the_list_can_be_narrowed(run: Run, arguments: tuple[str, ...], wanted: list[str]) -> None:
    listed = await run("dead", "list", *arguments, "--output", "json")

    assert [letter["jobId"] for letter in json_lines(listed.stdout)] == wanted


@pytest.mark.usefixtures("parked")
async def test_a_message_is_shown_whole(run: Run) -> None:
    shown = await run("dead", "show", "crashed")

    assert shown.returncode == 0
    facts = dict(line.split(None, 1) for line in shown.stdout.splitlines() if not line.startswith(" "))
    assert (facts["job"], facts["reason"], facts["detail"]) == ("crashed", "DELIVERY_LIMIT", "gave up")
    assert "(3h ago)" in facts["parked"]
    assert f'    "billFileName": "{bill(1)}"' in shown.stdout


@pytest.mark.usefixtures("parked")
async def test_a_message_cannot_paint_the_terminal(run: Run) -> None:
    shown = await run("dead", "show", "odd")
    as_json = await run("dead", "show", "odd", "--output", "json")

    assert "\x1b" not in shown.stdout + as_json.stdout
    (letter,) = json_lines(as_json.stdout)
    assert (letter["body"], letter["bodyBase64"]) == (None, "/xtbMzFt")


async def test_a_replayed_message_becomes_a_job_and_ends(parked: Site, run: Run) -> None:
    dry = await run("dead", "replay", "crashed", "--dry-run")
    assert await parked.queue_length(parked.names.jobs) == 0
    replayed = await run("dead", "replay", "crashed")

    assert "would be replayed" in dry.stdout
    assert replayed.stdout == "✓ crashed (DELIVERY_LIMIT) replayed\n"
    assert await parked.queue_length(parked.names.dead) == 2
    with parked.worker():
        await parked.until(lambda: "crashed" in parked.ledger.outcomes)
    (outcome,) = parked.ledger.outcomes["crashed"]
    assert isinstance(outcome, DownloadCompleted)
    assert outcome.attempts == 1


async def test_replaying_all_ends_though_some_come_back_immediately(parked: Site, run: Run) -> None:
    with parked.worker():
        replayed = await run("dead", "replay", "--all", "--output", "json")
        await parked.until(lambda: set(parked.ledger.outcomes) == {"old", "crashed", "odd"})

    assert {letter["action"] for letter in json_lines(replayed.stdout)} == {"replayed"}
    assert len(json_lines(replayed.stdout)) == 3
    assert await parked.queue_length(parked.names.dead) == 2


async def test_a_replay_that_the_broker_refuses_stays_parked(parked: Site, run: Run) -> None:
    await parked.delete_jobs_queue()

    replayed = await run("dead", "replay", "--all")

    assert replayed.returncode == 3
    assert "no queue takes" in replayed.stderr
    assert await parked.queue_length(parked.names.dead) == 3


async def test_discarding_asks_first(parked: Site, run: Run) -> None:
    refused = await run("dead", "discard", "--reason", "INVALID_JOB", typed="n\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert await parked.queue_length(parked.names.dead) == 3

    agreed = await run("dead", "discard", "--reason", "INVALID_JOB", typed="y\n")

    assert "Drop 2 messages for good? [y/n] (n): " in agreed.stderr
    assert agreed.stdout == "✓ old (INVALID_JOB) discarded\n✓ odd (INVALID_JOB) discarded\n"
    assert await parked.queue_length(parked.names.dead) == 1


async def test_a_discarded_message_is_printed_whole(parked: Site, run: Run) -> None:
    discarded = await run("dead", "discard", "--all", "--yes", "--output", "json")

    kept = {letter["jobId"]: letter for letter in json_lines(discarded.stdout)}
    assert kept.keys() == {"old", "crashed", "odd"}
    assert json.loads(kept["crashed"]["body"])["billFileName"] == bill(1)
    assert await parked.queue_length(parked.names.dead) == 0


@pytest.mark.parametrize("command", ["replay", "discard"])
async def test_nothing_is_done_without_saying_to_what(parked: Site, run: Run, command: str) -> None:
    done = await run("dead", command)

    assert done.returncode == 2
    assert "--all" in done.stderr
    assert await parked.queue_length(parked.names.dead) == 3


@pytest.mark.parametrize(
    "arguments", [("show", "none"), ("replay", "none", "crashed"), ("discard", "none", "--yes")]
)
@pytest.mark.usefixtures("parked")
async def test_an_id_that_is_not_parked_is_named(run: Run, arguments: tuple[str, ...]) -> None:
    done = await run("dead", *arguments)

    assert done.returncode == 1
    assert "none: no such message is parked" in done.stderr


async def test_the_limit_bounds_what_is_looked_at(parked: Site, run: Run) -> None:
    listed = await run("dead", "list", "--limit", "2", "--output", "json")

    assert len(json_lines(listed.stdout)) == 2
    assert "looked at 2 of 3; --limit looks at more" in listed.stderr
    assert await parked.queue_length(parked.names.dead) == 3


async def test_two_concurrent_operators_don_t_mislead_each_other(parked: Site, run: Run) -> None:
    async with (
        open_connection(parked.url, name="other", heartbeat=10, timeout=10, tls=None) as opened,
        open_dead_letters(opened, parked.names, timeout=10) as dead,
    ):
        held = [letter async for letter in dead.take(10)]
        listed = await run("dead", "list")

    assert len(held) == 3
    assert (listed.returncode, listed.stdout) == (3, "")
    assert f"another operator is looking into {parked.names.dead} now" in listed.stderr


async def test_an_age_without_unit_is_refused(run: Run) -> None:
    listed = await run("dead", "list", "--older-than", "5")

    assert listed.returncode == 2
    assert "90s, 15m, 2h or 3d" in " ".join(listed.stderr.split())


async def test_every_letter_is_listed_and_shown(site: Site, run: Run) -> None:
    """Whatever somebody put there, or RabbitMQ itself."""
    parked = [raw for raw in SHAPES.values() if await put_raw(site.own_url, site.names.dead, raw, b"{}")]

    listed = await run("dead", "list", "--output", "json")
    shown = await run("dead", "show", hashlib.sha256(b"{}").hexdigest())

    assert (listed.returncode, shown.returncode) == (0, 0)
    assert len(json_lines(listed.stdout)) == len(parked)
    assert "nested more than 64 deep" in shown.stdout
    assert await site.queue_length(site.names.dead) == len(parked)


async def test_a_letter_of_which_only_the_beginning_is_here_stays(site: Site, run: Run) -> None:
    body = b'"' + b"x" * 1_000_000 + b'"'
    await put_raw(site.own_url, site.names.jobs, b"\0\0", body)
    job_id = hashlib.sha256(body).hexdigest()
    with site.worker():
        await site.until(lambda: job_id in site.ledger.outcomes)
    async with outside_channel(site.own_url) as channel:
        await channel.default_exchange.publish(Message(b"{}", message_id="small"), site.names.dead)

    dry = await run("dead", "replay", "--all", "--dry-run")
    replayed = await run("dead", "replay", "--all")
    shown = await run("dead", "show", job_id)

    reason = f"{job_id} stays parked: only the first 65536 of its 1000002 bytes were kept"
    for done in (dry, replayed):
        assert done.returncode == 1
        assert reason in done.stderr
    assert replayed.stdout == "✓ small (no reason) replayed\n"
    assert "65536 bytes, the beginning of 1000002" in shown.stdout
    assert await site.queue_length(site.names.dead) == 1
