"""The jobs that failed last."""

from datetime import UTC, datetime, timedelta

from worker.observe.failures import Failure, Failures

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


def failure(number: int, *, minutes: int = 0, app_id: str | None = "app1") -> Failure:
    return Failure(NOW - timedelta(minutes=minutes), f"job-{number}", app_id, None, "TIMEOUT", "too slow")


def test_the_newest_come_first() -> None:
    failures = Failures()
    for number in range(600):
        failures.add(failure(number))

    assert [one.job_id for one in failures.newest(2)] == ["job-599", "job-598"]
    assert len(failures.newest(10_000)) == 500


def test_accounts_are_counted_over_an_hour() -> None:
    failures = Failures()
    for minutes, app_id in ((90, "app1"), (59, "app1"), (5, "app2"), (1, "app1"), (1, None)):
        failures.add(failure(1, minutes=minutes, app_id=app_id))

    assert failures.by_account(NOW) == {"app1": 2, "app2": 1}
