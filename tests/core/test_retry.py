"""What follows a failed attempt, by the contract's error table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ErrorCode
from worker.core.retry import RULES, Retry, RetryPolicy, backoff
from worker.errors import JobError

POLICY = RetryPolicy(delays=(10, 60, 300), not_found_attempts=2)

FAILED_IMMEDIATELY = [
    ErrorCode.INVALID_JOB,
    ErrorCode.UNKNOWN_APP,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.REQUEST_REJECTED,
    ErrorCode.TOO_LARGE,
    ErrorCode.DELIVERY_LIMIT,
]
TRIED_AGAIN = [
    ErrorCode.UPSTREAM_ERROR,
    ErrorCode.UPSTREAM_UNREACHABLE,
    ErrorCode.TIMEOUT,
    ErrorCode.TRUNCATED,
    ErrorCode.CORRUPT_ARCHIVE,
    ErrorCode.STORAGE_ERROR,
    ErrorCode.INTERNAL_ERROR,
]


def failure(code: ErrorCode, retry_after: float | None = None) -> JobError:
    return JobError(code, "no", retry_after=retry_after)


def test_every_code_has_a_rule() -> None:
    """A code that the contract gains must be given a rule here too."""
    assert set(RULES) == set(ErrorCode)


@pytest.mark.parametrize("code", FAILED_IMMEDIATELY)
def test_hopeless_failures_are_not_tried_again(code: ErrorCode) -> None:
    assert POLICY.decide(failure(code), 1) is None


@pytest.mark.parametrize("code", TRIED_AGAIN)
def test_usual_failures_wait_longer_each_time_and_then_end(code: ErrorCode) -> None:
    """One more attempt than there are waits."""
    decisions = [POLICY.decide(failure(code), attempt) for attempt in (1, 2, 3, 4)]

    assert decisions == [Retry(10, 2), Retry(60, 3), Retry(300, 4), None]


def test_flow_control_waits_a_tier_longer() -> None:
    decisions = [POLICY.decide(failure(ErrorCode.FLOW_CONTROL), attempt) for attempt in (1, 2, 3, 4)]

    assert decisions == [Retry(60, 2), Retry(300, 3), Retry(300, 4), None]


def test_a_missing_file_is_asked_for_a_few_times_only() -> None:
    decisions = [POLICY.decide(failure(ErrorCode.FILE_NOT_FOUND), attempt) for attempt in (1, 2)]

    assert decisions == [Retry(10, 2), None]


def test_a_full_storage_burns_no_attempt() -> None:
    assert POLICY.decide(failure(ErrorCode.STORAGE_FULL), 99) == Retry(10, 99)


@pytest.mark.parametrize(("asked", "wait"), [(1, 60), (61, 300), (9999, 300)])
def test_retry_after_picks_the_next_longer_tier(asked: float, wait: float) -> None:
    """The longest tier is the bound: a peer cannot send a job away for ever."""
    assert POLICY.decide(failure(ErrorCode.FLOW_CONTROL, asked), 1) == Retry(wait, 2)


def test_a_job_sent_back_takes_the_shortest_sufficient_tier() -> None:
    """It may leave that tier early; without a known wait it stays for all of the shortest one."""
    assert POLICY.defer(3) == Retry(10, 3)
    assert POLICY.defer(3, 0.5) == Retry(10, 3, early=0.5)
    assert POLICY.defer(3, 11) == Retry(60, 3, early=11)
    assert POLICY.defer(3, 301) == Retry(300, 3, early=301)


def test_without_delays_there_is_still_a_tier_to_defer_to() -> None:
    policy = RetryPolicy(delays=())

    assert policy.decide(failure(ErrorCode.TIMEOUT), 1) is None
    assert policy.defer(1) == Retry(policy.tiers[0], 1)


@given(
    code=st.sampled_from(ErrorCode),
    attempt=st.integers(1, 100),
    delays=st.lists(st.floats(0.001, 1000), max_size=6).map(tuple),
    retry_after=st.none() | st.floats(0, 1e6),
)
def test_every_wait_is_one_that_the_broker_has_a_queue_for(
    code: ErrorCode, attempt: int, delays: tuple[float, ...], retry_after: float | None
) -> None:
    policy = RetryPolicy(delays=delays)

    decision = policy.decide(failure(code, retry_after), attempt)

    assert decision is None or decision.delay in policy.tiers


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_never_nothing(failures: int, jitter: float) -> None:
    assert 0.25 <= backoff(failures, jitter) <= 30
