"""An account whose key is refused: its jobs wait, others go on, and nothing is submitted twice."""

import asyncio
import json
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from devkit.run.worker_process import WorkerProcess
from tests.amqp import outside_channel, put
from tests.installation import APP, Site, bill
from worker.broker import Names
from worker.simulator.faults import StatusCode

FAST = {"ACCOUNTS__PROBE_INTERVAL": "0.5", "CONCURRENCY": "8"}
"""A night in seconds: the longest wait of a held job is 2.5 s."""
QUIET = "quiet"
BACKLOG = 2000


@pytest.fixture
def names(names: Names) -> Names:
    """As the workers here have them, whose held jobs come back sooner."""
    return replace(names, held_tier=2.5)


@pytest.fixture
def keys_of_workers(site: Site) -> Path:
    """What the workers believe the keys to be: the account's is wrong."""
    own = site.folder / "workers-keys"
    own.mkdir()
    (own / APP).write_text("the old one")
    site.add_key(QUIET, "secret")
    (own / QUIET).write_text("secret")
    return own


def mend(site: Site, keys: Path) -> None:
    fresh = keys / ".fresh"
    fresh.write_text((site.keys / APP).read_text())
    fresh.replace(keys / APP)


async def status(worker: WorkerProcess) -> dict[str, Any]:
    _, page = await worker.get("/status")
    found: dict[str, Any] = json.loads(page)
    return found


async def held(site: Site) -> int:
    return await site.queue_length(site.names.held)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("simulator_options", [4096], indirect=True, ids=["small files"])
async def test_a_key_that_is_wrong_for_a_night_fails_nothing(site: Site, keys_of_workers: Path) -> None:
    """Wrong at midnight, mended at six: 2,000 jobs complete, none failed or submitted twice.

    Two workers, one of which is restarted in between and remembers nothing.
    """
    mend(site, keys_of_workers)
    settings = {**FAST, "CREDENTIALS__DIR": str(keys_of_workers), "LOG__LEVEL": "WARNING"}
    with site.worker("first", **settings) as first, site.worker("second", **settings):
        (evening,) = await site.publish(bill(BACKLOG))
        await site.settled()

        site.add_key(APP, "the new one")
        await site.publish(*(bill(number) for number in range(BACKLOG)))
        (quiet,) = await site.publish(bill(1), app_id=QUIET)
        await site.until(lambda: quiet in site.ledger.outcomes)
        await first.logged("account.still_refused")
        await first.logged("account.still_refused")
        first.signal(signal.SIGTERM)
        assert await first.exited() == 0
        first.start()
        await first.logged("account.held")
        assert list(site.ledger.outcomes) == [evening, quiet]
        refused = len([request for request in site.simulator.requests if request.app_id == APP])
        # Two for each job in hand when it began, and for each probe; the jobs are many more.
        assert refused < BACKLOG

        mend(site, keys_of_workers)
        counts = await site.settled(patience=500)

    assert (counts.completed, counts.failed, counts.duplicated) == (BACKLOG + 2, 0, 0)
    assert counts.sound
    assert {event.attempts for events in site.ledger.outcomes.values() for event in events} == {1}
    assert await held(site) == await site.queue_length(site.names.failed or "") == 0


async def test_the_status_says_which_account_is_held(site: Site, keys_of_workers: Path) -> None:
    with site.worker(CREDENTIALS__DIR=str(keys_of_workers)) as worker:
        await site.publish(*(bill(number) for number in range(20)))
        await worker.logged("job.held", count=20)
        (account,) = (await status(worker))["accounts"]
        hold = account["held"]
        _, metrics = await worker.get("/metrics")

    assert (account["appId"], hold["errorCode"], hold["waiting"]) == (APP, "UNAUTHORIZED", 20)
    assert "401" in hold["reason"]
    assert hold["since"] < hold["failAt"]
    assert "ccfs_worker_accounts_held 1.0" in metrics
    assert "ccfs_worker_jobs_held 20.0" in metrics


async def test_a_key_that_ccfs_accepts_again_lets_all_go(site: Site) -> None:
    """Nothing changes here: a probe finds out."""
    site.simulator.plan = lambda _: StatusCode(status=401)
    with site.worker(**FAST) as worker:
        await site.publish(*(bill(number) for number in range(20)))
        await worker.logged("account.still_refused")
        site.simulator.plan = lambda _: None
        line = await worker.logged("account.let_go")
        counts = await site.settled()

    assert line["reason"] == "CC-FS accepts its key"
    assert (counts.completed, counts.failed) == (20, 0)


async def test_a_job_that_is_refused_alone_fails_alone(site: Site) -> None:
    """It is refused again although another of its account succeeded with the same key."""
    site.simulator.plan = lambda request: (
        StatusCode(status=401) if request.bill_file_name == bill(7) else None
    )
    with site.worker(**FAST) as worker:
        (refused,) = await site.publish(bill(7))
        await worker.logged("account.held")
        await site.publish(*(bill(number) for number in range(10, 20)))
        counts = await site.settled()

    assert site.ledger.codes[refused] == "UNAUTHORIZED"
    assert (counts.completed, counts.failed, counts.sound) == (10, 1, True)


async def test_a_key_that_is_removed_and_put_back_fails_nothing(site: Site, keys_of_workers: Path) -> None:
    mend(site, keys_of_workers)
    settings = {**FAST, "CREDENTIALS__DIR": str(keys_of_workers)}
    with site.worker(**settings) as worker:
        await site.publish(bill(1))
        await site.settled()
        (keys_of_workers / APP).unlink()
        holding = asyncio.create_task(worker.logged("account.held"))
        for number in count(2):
            # They complete for as long as the key is kept in memory.
            await site.publish(bill(number))
            if (await asyncio.wait([holding], timeout=0.1))[0]:
                break
        mend(site, keys_of_workers)
        counts = await site.settled()

    assert holding.result()["code"] == "UNKNOWN_APP"
    assert (counts.completed, counts.failed) == (number, 0)


async def test_a_hold_has_an_end(site: Site, keys_of_workers: Path) -> None:
    """Counted from the first hold, over all rounds, in the job's own code."""
    settings = {**FAST, "CREDENTIALS__DIR": str(keys_of_workers), "ACCOUNTS__HOLD_AT_MOST": "2"}
    with site.worker(**settings):
        jobs = await site.publish(*(bill(number) for number in range(10)))
        await site.settled()

    assert {site.ledger.codes[job_id] for job_id in jobs} == {"UNAUTHORIZED"}
    assert {site.ledger.outcomes[job_id][0].attempts for job_id in jobs} == {1}


FORGED = (
    "9999-12-31T23:59:59.999999+00:00",
    "0001-01-01T00:00:00+14:00",
    "2026-01-31T08:15:00",
    "x" * 10_000,
    -1,
    True,
    {"x-held-since": [None]},
)
"""What a publisher may write where the worker notes times."""


@pytest.mark.parametrize("name", ["x-held-since", "x-refused-since"])
async def test_forged_times_of_a_hold_give_no_job_another_end(
    site: Site, keys_of_workers: Path, name: str
) -> None:
    """A refused job fails within its time, whatever its publisher wrote."""
    settings = {**FAST, "CREDENTIALS__DIR": str(keys_of_workers), "ACCOUNTS__HOLD_AT_MOST": "3"}
    with site.worker(**settings):
        async with outside_channel(site.own_url) as channel:
            for number, value in enumerate(FORGED):
                site.ledger.publish(f"{number}")
                headers = {"x-held-since": FORGED[0], name: value}
                body = site.body(bill(number))
                await put(channel, site.names.jobs, body, message_id=f"{number}", headers=headers)
        counts = await site.settled()

    assert {site.ledger.codes[f"{number}"] for number in range(len(FORGED))} == {"UNAUTHORIZED"}
    assert (counts.completed, counts.failed) == (0, len(FORGED))
