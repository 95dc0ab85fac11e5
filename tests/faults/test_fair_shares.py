"""Accounts beside each other: order is counted here, time in the benchmark."""

from tests.installation import APP, Site, bill
from worker.simulator import Fault, ReceivedRequest
from worker.simulator.faults import HeldAnswer, ResultCode

BACKLOG = 400
QUIET = "quiet"


async def test_a_backlog_of_one_account_does_not_hold_up_another(site: Site) -> None:
    """A single job behind 400 of another account is done while that account's slots are still held."""
    site.add_key(QUIET, "secret")
    holds: list[HeldAnswer] = []

    def plan(request: ReceivedRequest) -> Fault | None:
        if request.app_id == QUIET:
            return None
        holds.append(HeldAnswer(before_headers=True))
        return holds[-1]

    site.simulator.plan = plan
    with site.worker(CONCURRENCY="8", CONCURRENCY_PER_APP="2"):
        await site.publish(*(bill(number) for number in range(BACKLOG)))
        (quiet,) = await site.publish(bill(1), app_id=QUIET)
        await site.until(lambda: quiet in site.ledger.outcomes)

        assert list(site.ledger.outcomes) == [quiet]
        assert len(holds) == 2
        site.simulator.plan = lambda _: None
        for hold in holds:
            hold.release.set()
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (BACKLOG + 1, True)


async def test_a_backlog_sent_back_returns_as_places_come_free(site: Site) -> None:
    """None of it waits out the shortest tier, which is longer here than the test's patience."""
    with site.worker(CONCURRENCY="8", CONCURRENCY_PER_APP="2", RETRY__DELAYS="[600]"):
        await site.publish(*(bill(number) for number in range(100)))
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (100, True)


async def test_flow_control_of_one_account_does_not_hold_up_another(site: Site) -> None:
    """While CC-FS refuses one account everything, the jobs of another are done one after the other."""
    site.add_key(QUIET, "secret")
    storm = True

    def plan(request: ReceivedRequest) -> Fault | None:
        return ResultCode(code="0300008") if storm and request.app_id == APP else None

    site.simulator.plan = plan
    with site.worker(CONCURRENCY="8", RETRY__DELAYS=str([0.2] * 32)):
        await site.publish(*(bill(number) for number in range(100)))
        for number in range(10):
            (quiet,) = await site.publish(bill(number), app_id=QUIET)
            await site.until(lambda: quiet in site.ledger.outcomes)  # noqa: B023 - awaited in the same turn

        assert all(job_id.startswith(f"{QUIET}/") for job_id in site.ledger.outcomes)
        storm = False
        counts = await site.settled()

    assert (counts.completed, counts.sound) == (110, True)
