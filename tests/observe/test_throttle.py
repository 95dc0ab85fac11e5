"""A storm of like events becomes a few of them and a count."""

import pytest

from worker.observe.throttle import Suppressed, Throttle

TIMEOUT, CUT = ("job.retried", "TIMEOUT"), ("job.retried", "TRUNCATED")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock, burst=2, interval=10)


def test_a_burst_passes_and_the_rest_is_kept_back(throttle: Throttle) -> None:
    assert [throttle.admits(TIMEOUT) for _ in range(4)] == [True, True, False, False]


def test_each_kind_has_its_own_burst(throttle: Throttle) -> None:
    assert [throttle.admits(kind) for kind in (TIMEOUT, CUT, TIMEOUT, CUT, TIMEOUT)] == [True] * 4 + [False]


def test_the_rest_is_told_when_the_interval_is_over(throttle: Throttle, clock: Clock) -> None:
    for _ in range(5):
        throttle.admits(TIMEOUT)
    throttle.admits(CUT)
    clock.now += 9.9
    assert list(throttle.over()) == []

    clock.now += 0.6

    assert list(throttle.over()) == [Suppressed(TIMEOUT, 3, 10.5)]
    assert list(throttle.over()) == []


def test_the_next_interval_has_a_burst_again(throttle: Throttle, clock: Clock) -> None:
    for _ in range(3):
        throttle.admits(TIMEOUT)
    clock.now += 10
    list(throttle.over())
    assert [throttle.admits(TIMEOUT) for _ in range(3)] == [True, True, False]
