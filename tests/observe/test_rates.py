"""Growth per second over a window of samples."""

from worker.observe.rates import Rates


def test_growth_is_taken_over_the_window() -> None:
    rates = Rates(window=3)
    for now, count in ((0, 0), (5, 1000), (10, 1010), (15, 1020)):
        rates.sample(now, {"completed": count})
    assert rates.per_second() == {"completed": 2.0}


def test_one_sample_is_no_growth() -> None:
    rates = Rates(window=3)
    assert rates.per_second() == {}
    rates.sample(7, {"completed": 5})
    assert rates.per_second() == {"completed": 0.0}
