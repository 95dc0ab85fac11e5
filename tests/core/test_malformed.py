"""Jobs that are against the contract's rules are refused, and the refusal says why."""

import pytest

from tests.malformed import APP_ID, FILE, GOOD, MALFORMED, Malformed
from worker.core.job import Envelope, read_job

CASES = pytest.mark.parametrize("case", MALFORMED.values(), ids=list(MALFORMED))


def test_the_job_that_all_of_them_are_bent_from_is_good() -> None:
    job = read_job(Envelope(body=GOOD))

    assert job.request is not None
    assert (job.app_id, job.bill_file_name, job.defect) == (APP_ID, FILE, "")


@CASES
def test_it_asks_for_nothing(case: Malformed) -> None:
    assert read_job(Envelope(body=case.body)).request is None


@CASES
def test_its_defect_names_what_to_mend(case: Malformed) -> None:
    assert case.blames in read_job(Envelope(body=case.body)).defect


@CASES
def test_what_is_right_about_it_is_kept_for_its_event(case: Malformed) -> None:
    job = read_job(Envelope(body=case.body))

    assert (job.app_id, job.bill_file_name) == (case.app_id, case.bill_file_name)
