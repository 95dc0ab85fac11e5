"""The last hour by the minute."""

from datetime import UTC, datetime, timedelta

from worker.observe.history import History

BEGIN = datetime(2026, 1, 31, 8, 0, 30, tzinfo=UTC)


def grown(history: History) -> list[tuple[str, int]]:
    return [(f"{at:%H:%M}", growth["completed"]) for at, growth in history.minutes()]


def test_each_minute_has_its_own_growth() -> None:
    history = History()
    for seconds, completed in ((0, 0), (20, 5), (40, 9), (60, 12), (100, 20)):
        history.sample(BEGIN + timedelta(seconds=seconds), {"completed": completed})

    assert grown(history) == [("08:00", 9), ("08:01", 11), ("08:02", 0)]


def test_minutes_without_a_sample_did_nothing() -> None:
    history = History()
    history.sample(BEGIN, {"completed": 3})
    history.sample(BEGIN + timedelta(minutes=3), {"completed": 7})

    assert grown(history) == [("08:00", 7), ("08:01", 0), ("08:02", 0), ("08:03", 0)]


def test_an_hour_is_kept_however_long_it_goes_on() -> None:
    history = History()
    for minute in (0, 1, 59, 60, 500, 100_000):
        history.sample(BEGIN + timedelta(minutes=minute), {"completed": minute})

    assert len(grown(history)) == 60
    assert grown(history)[-1] == (f"{BEGIN + timedelta(minutes=100_000):%H:%M}", 0)


def test_a_clock_that_is_set_back_breaks_nothing() -> None:
    history = History()
    history.sample(BEGIN, {"completed": 1})
    history.sample(BEGIN - timedelta(hours=2), {"completed": 4})

    assert grown(history) == [("08:00", 4)]
