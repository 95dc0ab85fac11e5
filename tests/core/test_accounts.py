"""Which jobs wait for their account's key, which one is tried, and which fails."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ErrorCode
from worker.core.accounts import (
    Account,
    AccountHeldError,
    Accounts,
    HeldReturns,
    HoldPolicy,
    Refusal,
    held_on,
)
from worker.core.job import Envelope, Hold, Job, hold_headers, read_job
from worker.core.progress import Signed
from worker.errors import JobError

NIGHT = datetime(2026, 1, 31, tzinfo=UTC)
WRONG, RIGHT = "wrong", "right"
REFUSED = JobError(ErrorCode.UNAUTHORIZED, "CC-FS answered HTTP 401", http_status=401)
KEYLESS = JobError(ErrorCode.UNKNOWN_APP, "there is no key file for this account (app1)")
NOT_FOUND = JobError(ErrorCode.FILE_NOT_FOUND, "0300011", result_code="0300011", http_status=200)
A_NIGHT = 43_200


def at(seconds: float) -> datetime:
    return NIGHT + timedelta(seconds=seconds)


def job(number: int = 1, hold: Hold | None = None) -> Job:
    body = b'{"appId": "app1", "billFileName": "20260131_%d.zip"}' % number
    return read_job(Envelope(body=body, headers=hold_headers(hold) if hold else {}))


def refusal(seconds: float, key: int | None = 1, error: JobError = REFUSED) -> Refusal:
    return Refusal(error=error, key=key, at=at(seconds))


class Worker:
    """What a worker tells its accounts."""

    def __init__(self, at_most: float = A_NIGHT) -> None:
        self.seconds = 0.0
        self.accounts = Accounts(
            HoldPolicy(at_most=at_most, probe_interval=60), clock=lambda: at(self.seconds)
        )

    def try_job(
        self, key: str = WRONG, *, error: JobError | None = REFUSED, of: Job | None = None
    ) -> Hold | None:
        """Try a job; gives how it is held."""
        with self.accounts.trying("app1"):
            signed = self.accounts.note_signing("app1", key)
            if error is None:
                self.accounts.accepted("app1", signed)
                return None
            self.accounts.answered("app1", signed, error)
        return self.accounts.refused(of or job(), error, signed)

    @property
    def holds(self) -> bool:
        return bool(self.accounts.held)

    def lets_through(self) -> bool:
        try:
            self.accounts.check("app1")
        except AccountHeldError:
            return False
        return True


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_a_refused_job_is_held_and_so_is_its_account(worker: Worker) -> None:
    assert worker.try_job() == Hold(NIGHT, NIGHT)

    (held,) = worker.accounts.held
    assert (held.app_id, held.since, held.error, held.until) == ("app1", NIGHT, REFUSED, at(A_NIGHT))
    assert not worker.lets_through()
    worker.accounts.check("another")


def test_one_job_at_a_time_is_tried_each_interval(worker: Worker) -> None:
    worker.try_job()
    worker.seconds = 59.9
    assert not worker.lets_through()

    worker.seconds = 60
    with worker.accounts.trying("app1"):
        worker.seconds = 600
        assert not worker.lets_through()
    assert worker.lets_through()
    worker.try_job()
    assert not worker.lets_through()
    worker.seconds = 660
    assert worker.lets_through()


def test_a_clock_that_is_set_back_does_not_stop_the_tries(worker: Worker) -> None:
    worker.seconds = 7200
    worker.try_job()

    worker.seconds = 3600

    assert worker.lets_through()


@pytest.mark.parametrize("error", [None, NOT_FOUND], ids=["a file", "no such file"])
def test_an_answer_that_shows_that_the_key_is_right_lets_all_go(
    worker: Worker, error: JobError | None
) -> None:
    worker.try_job()
    worker.seconds = 60

    worker.try_job(error=error)

    assert not worker.holds
    assert worker.lets_through()


@pytest.mark.parametrize(
    "error",
    [
        JobError(ErrorCode.FLOW_CONTROL, "403", http_status=403),
        JobError(ErrorCode.UPSTREAM_UNREACHABLE, "reset"),
        JobError(ErrorCode.UPSTREAM_ERROR, "a page of a proxy", http_status=200),
        JobError(ErrorCode.TIMEOUT, "late"),
    ],
    ids=lambda error: error.code,
)
def test_an_answer_that_says_nothing_of_the_key_changes_nothing(worker: Worker, error: JobError) -> None:
    worker.try_job()
    worker.seconds = 60

    assert worker.try_job(error=error) is None

    assert worker.holds
    assert not worker.lets_through()


def test_a_file_requested_before_the_refusal_lets_nothing_go(worker: Worker) -> None:
    """A large one may still be accepted, and arrive, long after its key was withdrawn."""
    early = worker.accounts.note_signing("app1", WRONG)
    worker.seconds = 10
    worker.try_job()
    worker.seconds = 20

    worker.accounts.accepted("app1", early)

    assert worker.holds


def test_a_changed_key_lets_all_go(worker: Worker) -> None:
    worker.try_job()

    worker.accounts.shown("app1", WRONG)
    assert worker.holds
    worker.accounts.shown("app1", RIGHT)
    assert not worker.holds


def test_a_key_mended_during_a_try_lets_all_go(worker: Worker) -> None:
    """The refusal of the old key comes after the new one was seen."""
    worker.try_job()
    worker.seconds = 60
    with worker.accounts.trying("app1"):
        signed = worker.accounts.note_signing("app1", WRONG)
        worker.accounts.shown("app1", RIGHT)
        assert not worker.holds
    assert worker.accounts.refused(job(), REFUSED, signed) is not None
    assert worker.holds

    worker.accounts.shown("app1", RIGHT)

    assert not worker.holds
    assert worker.lets_through()


def test_a_key_that_appears_lets_all_go(worker: Worker) -> None:
    worker.accounts.note_signing("app1", RIGHT)
    assert worker.accounts.refused(job(), KEYLESS, None) == Hold(NIGHT, NIGHT)
    assert worker.holds

    worker.accounts.shown("app1", RIGHT)

    assert not worker.holds


def test_an_account_without_a_key_from_the_start_is_a_typo(worker: Worker) -> None:
    assert worker.accounts.refused(job(), KEYLESS, None) is None
    assert not worker.holds


def test_a_held_job_is_no_typo_for_a_worker_just_started(worker: Worker) -> None:
    """Another worker saw the key; this one remembers nothing of an account that a publisher may invent."""
    was = Hold(at(-100), at(-100))

    assert worker.accounts.refused(job(hold=was), KEYLESS, None) == was
    assert not worker.holds


def test_a_job_refused_again_after_anothers_success_fails(worker: Worker) -> None:
    poison = job(1, hold=worker.try_job())
    worker.seconds = 60
    worker.try_job(error=None)
    worker.seconds = 70

    assert worker.try_job(of=poison) is None
    assert not worker.holds


def test_a_success_with_another_key_is_no_proof_against_a_job(worker: Worker) -> None:
    first = worker.try_job(RIGHT)
    worker.seconds = 60
    worker.try_job(WRONG, error=None)
    worker.seconds = 70

    assert worker.try_job(RIGHT, of=job(1, hold=first)) == first


def test_a_job_that_was_only_held_is_held_at_its_first_refusal(worker: Worker) -> None:
    """Others were refused, then one succeeded: this one has not been refused again."""
    worker.try_job()
    waiting = worker.accounts.kept_waiting(job(2), REFUSED)
    assert waiting == Hold(NIGHT, None)
    worker.seconds = 60
    worker.try_job(error=None)
    worker.seconds = 70

    assert worker.try_job(of=job(2, hold=waiting)) == Hold(NIGHT, at(70))


def test_a_job_fails_when_it_has_been_held_for_too_long(worker: Worker) -> None:
    """Whether or not it was tried, counted from its first hold."""
    was = Hold(at(1 - A_NIGHT), None)
    assert worker.accounts.kept_waiting(job(hold=was), REFUSED) == was
    worker.seconds = 1

    assert worker.accounts.kept_waiting(job(hold=was), REFUSED) is None
    assert worker.try_job(of=job(hold=was)) is None


def test_a_hold_of_nothing_holds_nothing() -> None:
    worker = Worker(at_most=0)

    assert worker.try_job() is None
    assert not worker.holds
    assert HoldPolicy().tier is None


def test_another_failure_holds_nothing(worker: Worker) -> None:
    assert worker.try_job(error=JobError(ErrorCode.REQUEST_REJECTED, "404", http_status=404)) is None
    assert not worker.holds


@pytest.mark.parametrize(
    "header",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-01-31T00:00:00",
        "0001-01-01T00:00:00+14:00",
        "9" * 10_000,
        7,
        b"x",
    ],
)
def test_a_hold_that_no_worker_wrote_is_none(header: object) -> None:
    assert read_job(Envelope(body=b"{}", headers={"x-held-since": header})).hold is None


def test_a_hold_goes_around_with_its_job() -> None:
    hold = Hold(at(1.5), at(2.25))

    assert job(hold=hold).hold == hold
    assert hold_headers(Hold(at(1.5), None)) == {"x-held-since": "2026-01-31T00:00:01.500Z"}


def test_a_hold_from_the_future_begins_now(worker: Worker) -> None:
    """Of a worker whose clock is ahead, or of a publisher who wrote it."""
    hold = worker.accounts.kept_waiting(job(hold=Hold(at(10_000), None)), REFUSED)

    assert hold == Hold(NIGHT, None)


def test_held_jobs_come_back_one_after_the_other() -> None:
    returns = HeldReturns(60)

    waits = [returns.next(now=0) for _ in range(10_000)]

    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (60, 300)
    assert waits[100] == pytest.approx(63)
    assert returns.waiting(0) == 10_000
    assert 5_000 < returns.waiting(150) < 8_000
    assert returns.waiting(310) == 0


@given(steps=st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["refuse", "accept", "show"]))))
def test_whatever_happens_an_account_is_tried_within_an_interval(steps: list[tuple[float, str]]) -> None:
    """No order of events leaves one held that is tried no more."""
    account, seconds = Account(has_had_key=True), 0.0
    for wait, what in steps:
        seconds += wait
        if what == "refuse":
            account = account.refused(refusal(seconds))
        elif what == "accept":
            account = account.succeeded(Signed(1, at(seconds)))
        else:
            account = account.shown(2)

    assert account.may_try(at(seconds + 60), 60)
    assert (account.refusal is None) == (account.since is None) == (account.tried_at is None)


@given(
    since=st.floats(-2 * A_NIGHT, 0),
    refused=st.none() | st.floats(-2 * A_NIGHT, 0),
    accepted=st.none() | st.floats(-2 * A_NIGHT, 0),
    same_key=st.booleans(),
    tried=st.booleans(),
)
def test_a_job_fails_only_for_one_of_two_reasons(
    since: float, refused: float | None, accepted: float | None, same_key: bool, tried: bool
) -> None:
    was = Hold(at(since), None if refused is None else at(refused))
    seen = None if accepted is None else Signed(1 if same_key else 2, at(accepted))
    account = Account(has_had_key=True, accepted=seen)

    hold = held_on(account, was, refusal(0), tried=tried, at_most=A_NIGHT)

    is_late = since <= -A_NIGHT
    is_its_own = (
        tried and same_key and refused is not None and accepted is not None and at(accepted) > at(refused)
    )
    assert (hold is None) == (is_late or is_its_own)
