"""The newcomer's ten minutes: own jobs, a failure, its reason, and another try."""

import pytest

from tests.cli.conftest import Run, json_lines
from tests.installation import APP, DELIVERY_LIMIT, Site, bill
from worker.observe.status import Status
from worker.simulator.faults import HeldAnswer


async def test_a_failed_job_is_found_out_mended_and_tried_again(site: Site, run: Run) -> None:
    """By the log and the status of the worker, and with nothing typed twice."""
    key = site.keys / APP
    with site.worker(ACCOUNTS__HOLD_AT_MOST="0") as worker:
        await worker.readiness()
        assert (await run("check")).returncode == 0
        assert (await run("submit", APP, bill(1), "--wait")).returncode == 0

        secret = key.read_text()
        key.unlink()
        failed = await run("submit", APP, bill(2), bill(3), "--wait", "--output", "json")
        assert failed.returncode == 1
        outcomes = json_lines(failed.stdout)
        assert {outcome["errorCode"] for outcome in outcomes} == {"UNKNOWN_APP"}

        for outcome in outcomes:
            line = await worker.logged("job.failed", job_id=outcome["jobId"])
            assert "there is no key file" in line["reason"]
        _, page = await worker.get("/status")
        assert Status.model_validate_json(page).totals.outcomes_failed == {"UNKNOWN_APP": 2}
        checked = await run("check")
        assert f"✗ keys: none in {site.keys}" in checked.stdout

        key.write_text(secret)
        again = await run("submit", "--from", "-", "--wait", typed=failed.stdout)

    assert again.returncode == 0
    assert "2 completed, 0 failed" in again.stderr
    assert {path.name for path in site.root.rglob("*.zip")} == {bill(1), bill(2), bill(3)}


@pytest.mark.timeout(300)
async def test_a_job_that_kills_workers_is_parked_found_and_replayed(site: Site, run: Run) -> None:
    site.simulator.plan = lambda _: HeldAnswer()
    submitted = await run("submit", APP, bill(1), "--output", "json")
    (job,) = json_lines(submitted.stdout)
    with site.worker() as worker:
        for _ in range(DELIVERY_LIMIT + 1):
            await worker.logged("job.received", job_id=job["jobId"])
            worker.kill()
            worker.start()
        line = await worker.logged("job.failed", job_id=job["jobId"])
        assert line["code"] == "DELIVERY_LIMIT"
        await worker.logged("job.settled", job_id=job["jobId"])

        listed = await run("dead", "list", "--reason", "DELIVERY_LIMIT", "--output", "json")
        assert [letter["jobId"] for letter in json_lines(listed.stdout)] == [job["jobId"]]
        shown = await run("dead", "show", job["jobId"])
        assert "the broker gave up on the message" in shown.stdout

        site.simulator.plan = lambda _: None
        assert (await run("dead", "replay", job["jobId"])).returncode == 0
        await site.until(lambda: len(site.ledger.outcomes[job["jobId"]]) == 2)

    assert [outcome.status for outcome in site.ledger.outcomes[job["jobId"]]] == ["failed", "completed"]
    assert (await run("dead", "list", "--output", "json")).stdout == ""
