"""Where files lie, whatever a job asks for."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas import DownloadJob
from schemas.types import FilePath
from tests.messages import jobs
from worker.core.paths import final_path, is_part, part_name

_NAME_MAX = 255
"""Bytes of a file's name on every file system that Linux mounts."""

uniques = st.from_regex(r"[0-9a-z]{1,32}", fullmatch=True)


def test_a_file_lies_under_its_account_and_day() -> None:
    job = DownloadJob(app_id="app1", bill_file_name="20260131_abc.zip")

    assert str(final_path(job)) == "app1/20260131/20260131_abc.zip"


@given(jobs)
def test_no_job_leads_out_of_the_storage_root(job: DownloadJob) -> None:
    path = final_path(job)

    assert not path.is_absolute()
    assert path.parts == (job.app_id, job.bill_file_name[:8], job.bill_file_name)
    assert {"", ".", ".."}.isdisjoint(path.parts)
    assert not any("/" in part or "\\" in part or "\0" in part for part in path.parts)


@given(jobs)
def test_the_path_is_one_that_an_event_may_hold(job: DownloadJob) -> None:
    TypeAdapter(FilePath).validate_python(str(final_path(job)))


@given(jobs, jobs)
def test_two_jobs_share_a_file_only_if_they_ask_for_the_same(one: DownloadJob, other: DownloadJob) -> None:
    assert (final_path(one) == final_path(other)) == (one == other)


@given(jobs, uniques)
def test_a_temporary_name_is_hidden_beside_the_final_one(job: DownloadJob, unique: str) -> None:
    final = final_path(job)
    part = final.with_name(part_name(final.name, unique))

    assert part.name == f".{job.bill_file_name}.{unique}.part"
    assert len(part.name) <= _NAME_MAX
    assert is_part(part)
    assert not is_part(final)


@pytest.mark.parametrize(
    "other",
    [
        ".20260131_a.zip.1f.part",
        "app1/.20260131_a.zip.1f.part",
        "app1/20260131/deep/.20260131_a.zip.1f.part",
        "app1/20260131/20260131_a.zip",
        "app1/20260131/20260131_a.zip.part",
        "app1/20260131/.20260131_a.zip.part",
        "app1/20260131/.20260131_a.zip.OTHER.part",
        "app1/20260131/.20260131_a.zip.1f.part.bak",
        "app1/20260131/.20260201_a.zip.1f.part",
        "app1/20260131/.20260131_.zip.1f.part",
        "app1/20260131/.notes.1f.part",
        ".app1/20260131/.20260131_a.zip.1f.part",
        "app1/20260131/.nfs0001",
    ],
)
def test_only_incomplete_files_of_ours_look_like_such(other: str) -> None:
    """What looks so is what the sweep deletes."""
    assert not is_part(PurePosixPath(other))
