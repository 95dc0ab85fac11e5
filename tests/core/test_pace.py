"""The pace: slower when told to, faster again in time, and no account takes all."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ErrorCode
from worker.core.pace import Pace, Window
from worker.errors import DeferredError, JobError

BUSY_ACCOUNT = JobError(ErrorCode.FLOW_CONTROL, "slow down", result_code="0300008", http_status=200)
BUSY_WAF = JobError(ErrorCode.FLOW_CONTROL, "slow down", http_status=429)


def pace(concurrency: int = 8, per_app: int = 8, patience: float = 60.0) -> Pace:
    return Pace(
        concurrency=concurrency,
        per_app=per_app,
        patience=patience,
        clock=lambda: 0.0,
    )


class Holder:
    """A download that takes its place and keeps it until let go."""

    def __init__(self, paced: Pace, app_id: str) -> None:
        self.holds = False
        self._let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(paced, app_id))

    async def _hold(self, paced: Pace, app_id: str) -> None:
        async with paced.place(app_id):
            self.holds = True
            await self._let_go.wait()

    async def let_go(self) -> None:
        self._let_go.set()
        await self.task


async def hold(paced: Pace, app_id: str, count: int = 1) -> list[Holder]:
    """Start this many downloads and let each come as far as it can."""
    holders = [Holder(paced, app_id) for _ in range(count)]
    await turn_over()
    return holders


async def turn_over() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def room_for(paced: Pace, app_id: str) -> int:
    """How many downloads of the account may begin now."""
    holders = await hold(paced, app_id, 20)
    begun = sum(holder.holds for holder in holders)
    for holder in holders:
        holder.task.cancel()
    await asyncio.gather(*(holder.task for holder in holders), return_exceptions=True)
    return begun


def test_a_window_is_halved_and_grows_back() -> None:
    window = Window(16)

    window.shrink(began=1, now=2)
    assert window.limit == 8
    for _ in range(8):
        window.grow()
    assert window.limit == 8
    window.grow()
    assert window.limit == 9


def test_a_burst_of_answers_to_one_window_counts_once() -> None:
    window = Window(16)

    for _ in range(10):
        window.shrink(began=1, now=2)
    assert window.limit == 8

    window.shrink(began=3, now=4)
    assert window.limit == 4


def test_after_an_outage_the_first_successes_double_the_window() -> None:
    window = Window(16)
    window.collapse()
    window.collapse()
    assert window.limit == 1

    for _ in range(7):
        window.grow()
    assert window.limit == 8
    window.grow()
    assert window.limit == 8


@given(st.lists(st.sampled_from(["grow", "shrink", "collapse"])), st.integers(1, 100))
def test_a_window_stays_between_one_and_its_most(steps: list[str], most: int) -> None:
    window = Window(most)
    for moment, step in enumerate(steps):
        match step:
            case "grow":
                window.grow()
            case "shrink":
                window.shrink(moment, moment)
            case _:
                window.collapse()
        assert 1 <= window.limit <= most


async def test_one_account_gets_its_share_and_leaves_the_rest() -> None:
    paced = pace(concurrency=8, per_app=3)
    hogs = await hold(paced, "hog", 3)

    assert await room_for(paced, "hog") == 0
    assert await room_for(paced, "quiet") == 3
    for hog in hogs:
        await hog.let_go()


async def test_jobs_that_wait_for_their_account_hold_a_quarter() -> None:
    """The others go back to the broker immediately, so that the queue behind them is seen."""
    paced = pace(concurrency=8, per_app=1)
    first, *others = await hold(paced, "hog", 6)
    refused = [hog for hog in others if hog.task.done()]

    assert (first.holds, len(refused)) == (True, 3)
    for hog in refused:
        with pytest.raises(DeferredError, match="has its share"):
            await hog.task
    second, third = (hog for hog in others if not hog.task.done())

    await first.let_go()
    await turn_over()
    assert (second.holds, third.holds) == (True, False)
    await second.let_go()
    await third.let_go()


async def waits(paced: Pace, app_id: str, count: int) -> list[float]:
    """The seconds after which each of these jobs without a place should come back."""
    sent_back = []
    for _ in range(count):
        with pytest.raises(DeferredError) as caught:
            async with paced.place(app_id):
                pass
        sent_back.append(caught.value.wait or 0.0)
    return sent_back


async def test_jobs_sent_back_return_twice_as_fast_as_places_free() -> None:
    """Each account's by themselves, and nobody is sent away for longer than a minute."""
    now = 0.0
    paced = Pace(concurrency=8, per_app=2, patience=60, clock=lambda: now)
    for _ in range(100):
        async with paced.place("hog"):
            now += 8.0
    held = [*await hold(paced, "hog", 2), *await hold(paced, "other", 2), *await hold(paced, "hog", 2)]

    assert await waits(paced, "hog", 3) == pytest.approx([2, 4, 6], rel=1e-3)
    assert await waits(paced, "other", 2) == pytest.approx([2, 4], rel=1e-3)
    now += 4.0
    assert await waits(paced, "hog", 1) == pytest.approx([4], rel=1e-3)
    assert max(await waits(paced, "hog", 100)) == 60
    now += 61.0
    assert await waits(paced, "hog", 1) == pytest.approx([2], rel=1e-3)
    for holder in held:
        await holder.let_go()


async def test_an_answer_of_ccfs_slows_its_account_only() -> None:
    paced = pace(concurrency=8, per_app=8)

    paced.failed("busy", BUSY_ACCOUNT, 0.0)

    assert paced.limit == 8
    assert await room_for(paced, "busy") == 4
    assert await room_for(paced, "other") == 8


async def test_an_answer_of_the_firewall_slows_everybody() -> None:
    paced = pace(concurrency=8, per_app=8)

    paced.failed("busy", BUSY_WAF, 0.0)

    assert paced.limit == 4
    assert await room_for(paced, "other") == 4


async def test_other_failures_slow_nobody() -> None:
    paced = pace()

    paced.failed("app", JobError(ErrorCode.TRUNCATED, "cut", http_status=200), 0.0)

    assert await room_for(paced, "app") == 8


@pytest.mark.parametrize(
    "answer",
    [
        JobError(ErrorCode.FILE_NOT_FOUND, "none", result_code="0300011", http_status=200),
        JobError(ErrorCode.UPSTREAM_ERROR, "broken", http_status=500),
        JobError(ErrorCode.TIMEOUT, "slow", http_status=200),
    ],
    ids=lambda error: error.code,
)
def test_after_an_outage_answers_that_are_no_files_widen_too(answer: JobError) -> None:
    paced = pace(concurrency=8)
    paced.collapse()

    for _ in range(30):
        paced.failed("app", answer, 0.0)

    assert paced.limit == 8


def test_after_an_outage_reused_files_widen_to_half() -> None:
    """CC-FS was not asked for them: more than that is for its answers to show."""
    paced = pace(concurrency=8)
    paced.collapse()

    for _ in range(30):
        paced.succeeded("app", reused=True)

    assert paced.limit == 4
    for _ in range(30):
        paced.succeeded("app")
    assert paced.limit == 8


def test_reused_files_take_back_no_slowing_down() -> None:
    paced = pace(concurrency=8)
    paced.failed("app", BUSY_WAF, 0.0)

    for _ in range(30):
        paced.succeeded("app", reused=True)

    assert paced.limit == 4


def test_a_failure_without_an_answer_widens_nothing() -> None:
    paced = pace(concurrency=8)
    paced.collapse()

    paced.failed("app", JobError(ErrorCode.UNKNOWN_APP, "no key"), 0.0)

    assert paced.limit == 1


async def test_an_account_gets_its_share_back() -> None:
    paced = pace(concurrency=4, per_app=4)
    paced.failed("busy", BUSY_ACCOUNT, 0.0)
    assert await room_for(paced, "busy") == 2

    for _ in range(20):
        paced.succeeded("busy")

    assert await room_for(paced, "busy") == 4


async def test_who_waits_too_long_goes_back() -> None:
    paced = pace(concurrency=4, per_app=2, patience=0.001)
    one, other = await hold(paced, "one", 2), await hold(paced, "other", 2)

    with pytest.raises(DeferredError, match=r"no place came free within 0\.001 s"):
        await Holder(paced, "third").task

    for holder in one + other:
        await holder.let_go()
    assert await room_for(paced, "third") == 2


async def test_a_place_given_to_somebody_cancelled_is_passed_on() -> None:
    paced = pace(concurrency=4, per_app=2)
    one, other = await hold(paced, "one", 2), await hold(paced, "other", 2)
    first, second = await hold(paced, "third", 2)

    # The place is given to the first of them, who is cancelled before it runs again.
    one[0].task.cancel()
    await asyncio.wait([one[0].task])
    first.task.cancel()
    await turn_over()

    assert first.task.cancelled()
    assert second.holds
    for holder in (one[1], *other, second):
        await holder.let_go()
