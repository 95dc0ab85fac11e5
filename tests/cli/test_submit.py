"""`submit`: all or nothing, every job confirmed, and outcomes for those who wait."""

import json
import re

import pytest

from schemas import DownloadCompleted
from tests.amqp import outside_channel
from tests.cli.conftest import Run, following, json_lines, on_terminal, read_until
from tests.installation import APP, Site, bill
from worker.simulator.faults import ResultCode


def listed(*names: str) -> str:
    return "".join(f"{APP},{name}\n" for name in names)


async def test_a_job_is_submitted_and_its_outcome_shown(site: Site, run: Run) -> None:
    with site.worker():
        submitted = await run("submit", APP, bill(1), "--wait")

    assert submitted.returncode == 0
    assert submitted.stdout.startswith(f"✓ {APP}/20260131/{bill(1)} (65,536 bytes, attempt 1)  job ")
    assert "1 of 1 job published" in submitted.stderr
    assert "1 completed, 0 failed, 0 without an outcome yet" in submitted.stderr
    assert (site.root / APP / "20260131" / bill(1)).is_file()


async def test_a_failure_is_shown_and_the_exit_code_tells(site: Site, run: Run) -> None:
    site.simulator.plan = lambda request: (
        ResultCode(code="0300004") if request.bill_file_name == bill(2) else None
    )

    with site.worker():
        submitted = await run("submit", APP, bill(1), bill(2), "--wait", "--output", "json")

    assert submitted.returncode == 1
    outcomes = {outcome["billFileName"]: outcome for outcome in json_lines(submitted.stdout)}
    assert outcomes[bill(1)]["status"] == "completed"
    assert (outcomes[bill(2)]["errorCode"], outcomes[bill(2)]["resultCode"]) == (
        "REQUEST_REJECTED",
        "0300004",
    )


async def test_waiting_ends_when_the_time_is_over(run: Run) -> None:
    """There is no worker."""
    submitted = await run("submit", APP, bill(1), "--wait", "--timeout", "0.5")

    assert (submitted.returncode, submitted.stdout) == (4, "")
    assert "1 without an outcome yet" in submitted.stderr


async def test_each_job_has_an_id_that_its_outcome_bears(site: Site, run: Run) -> None:
    names = [bill(number) for number in range(600)]
    (site.folder / "jobs.csv").write_text("appId,billFileName\n" + listed(*names))

    submitted = await run("submit", "--from", "jobs.csv", "--output", "json")

    printed = json_lines(submitted.stdout)
    assert submitted.returncode == 0
    assert sorted(job["billFileName"] for job in printed) == names
    assert len({job["jobId"] for job in printed}) == 600
    assert await site.queue_length(site.names.jobs) == 600
    message = await site.take(site.names.jobs)
    assert message.message_id in {job["jobId"] for job in printed}
    assert (message.content_type, message.delivery_mode) == ("application/json", 2)
    assert message.timestamp is not None
    assert json.loads(message.body)["appId"] == APP


async def test_a_bar_on_the_terminal_takes_nothing_from_a_pipe(site: Site) -> None:
    """As in `submit … --wait | tee outcomes.txt`."""
    with site.worker():
        async with on_terminal(site, "submit", APP, bill(1), bill(2), "--wait") as (process, terminal):
            screen = await read_until(terminal)
            assert process.stdout
            printed = (await process.stdout.read()).decode()
            assert await process.wait() == 0

    assert [line[:2] for line in printed.splitlines()] == ["✓ ", "✓ "]
    assert "2/2" in screen
    assert "✓" not in screen


async def test_outcomes_are_written_above_the_bar(site: Site) -> None:
    """Each on a line of its own, though both go to one terminal."""
    with site.worker():
        async with on_terminal(site, "submit", APP, bill(1), bill(2), "--wait", piped=False) as (
            process,
            terminal,
        ):
            screen = await read_until(terminal)
            assert await process.wait() == 0

    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen)
    starts = [shown[: found.start()][-1:] for found in re.finditer("✓", shown)]
    assert len(starts) == 2
    # The bar was erased (EL, ECMA-48) or there was none on that line.
    assert set(starts) <= {"\n", "\r", "K"}


async def test_one_bad_row_and_nothing_is_published(site: Site, run: Run) -> None:
    (site.folder / "jobs.csv").write_text(listed(bill(1), "nonsense", bill(2), "20260231_a.zip"))

    submitted = await run("submit", "--from", "jobs.csv")

    assert (submitted.returncode, submitted.stdout) == (2, "")
    lines = submitted.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == ["jobs.csv:2", "jobs.csv:4"]
    assert lines[2:] == ["nothing was published: 2 of 4 jobs are wrong"]
    assert await site.queue_length(site.names.jobs) == 0


async def test_a_bad_argument_is_named(run: Run) -> None:
    submitted = await run("submit", APP, bill(1), "../../etc/passwd")

    assert submitted.returncode == 2
    assert "../../etc/passwd: billFileName: " in submitted.stderr


async def test_standard_input_is_a_list_too(site: Site, run: Run) -> None:
    submitted = await run("submit", "--from", "-", typed=json.dumps({"appId": APP, "billFileName": bill(1)}))

    assert submitted.returncode == 0
    assert await site.queue_length(site.names.jobs) == 1


async def test_a_dry_run_needs_no_broker(run: Run) -> None:
    submitted = await run("submit", APP, bill(1), "--dry-run", AMQP__URL="amqp://127.0.0.1:9/")

    assert submitted.returncode == 0
    assert bill(1) in submitted.stdout
    assert "1 job would be published" in submitted.stderr


async def test_only_the_settings_of_the_broker_are_needed(site: Site, run: Run) -> None:
    """A publisher has no keys and no storage."""
    without = dict.fromkeys(("CCFS__BASE_URL", "CREDENTIALS__DIR", "STORAGE__ROOT"), "")

    submitted = await run("submit", APP, bill(1), **without)

    assert submitted.returncode == 0
    assert await site.queue_length(site.names.jobs) == 1


async def test_without_a_job_queue_it_says_so(site: Site, run: Run) -> None:
    await site.delete_jobs_queue()

    submitted = await run("submit", APP, bill(1))

    assert submitted.returncode == 3
    assert f"the queue {site.names.jobs} does not exist: a worker makes it" in submitted.stderr
    assert "Traceback" not in submitted.stderr


async def test_a_broker_that_refuses_jobs_is_told_and_how_far_it_came(site: Site, run: Run) -> None:
    async with outside_channel(site.own_url) as channel:
        await channel.queue_delete(site.names.jobs)
        await channel.declare_queue(
            site.names.jobs,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": 3, "x-overflow": "reject-publish"},
        )
    (site.folder / "jobs.csv").write_text(listed(*map(bill, range(2000))))

    submitted = await run("submit", "--from", "jobs.csv", "--output", "json")

    assert submitted.returncode == 3
    confirmed = json_lines(submitted.stdout)
    assert f"{len(confirmed):,} of 2,000 jobs published" in submitted.stderr
    assert "refused to store the message" in submitted.stderr
    assert len(confirmed) == await site.queue_length(site.names.jobs) < 2000


async def test_quiet_leaves_out_summaries_and_not_what_is_wrong(run: Run) -> None:
    quiet = await run("submit", APP, bill(1), "--quiet")
    wrong = await run("submit", APP, "nonsense", "-q")
    emptied = await run("failed", "list", "-q", "-o", "json")

    assert (quiet.stderr, bill(1) in quiet.stdout) == ("", True)
    assert "nothing was published" in wrong.stderr
    assert (emptied.stdout, emptied.stderr) == ("", "")


async def test_a_priority_goes_with_each_job(site: Site, run: Run) -> None:
    await run("submit", APP, bill(1), "--priority", "9")
    await run("submit", APP, bill(2))

    assert {(await site.take(site.names.jobs)).priority for _ in range(2)} >= {9}
    refused = await run("submit", APP, bill(1), "--priority", "256")
    assert refused.returncode == 2


async def test_the_log_of_a_worker_is_a_list_of_what_failed(site: Site, run: Run) -> None:
    site.simulator.plan = lambda request: (
        ResultCode(code="0300004") if request.bill_file_name == bill(2) else None
    )
    with site.worker():
        await site.publish(bill(1), bill(2))
        await site.settled()

    submitted = await run("submit", "--from", "worker.log", "--output", "json")

    assert [job["billFileName"] for job in json_lines(submitted.stdout)] == [bill(2)]


@pytest.mark.parametrize(
    "arguments", [(), (APP,), (APP, bill(1), "--from", "jobs.csv"), ("--from", "no/such/list.csv")]
)
async def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    submitted = await run("submit", *arguments)

    assert submitted.returncode == 2
    assert "Usage: ccfs-worker submit" in submitted.stderr


async def test_interrupting_the_wait_leaves_the_jobs_submitted(site: Site) -> None:
    async with following(site, "submit", APP, bill(1), "--wait", until="1 of 1 job published") as waiting:
        waiting.interrupt()
        assert await waiting.ended() == 130

    with site.worker():
        await site.until(lambda: bool(site.ledger.outcomes))
    ((outcome,),) = site.ledger.outcomes.values()
    assert isinstance(outcome, DownloadCompleted)
