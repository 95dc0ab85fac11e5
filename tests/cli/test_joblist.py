"""Lists of jobs: read as their writers meant them, and each bad row named by its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import DownloadJob
from worker.cli.joblist import Row, read_list

ONE = DownloadJob(app_id="app1", bill_file_name="20260131_a.zip")
TWO = DownloadJob(app_id="app2", bill_file_name="20260131_b.zip")
ONE_AS_JSON = ONE.model_dump_json()
TWO_AS_JSON = '{"appId": "app2", "billFileName": "20260131_b.zip", "x": 1}'


def read(text: str) -> list[Row]:
    return list(read_list(text.splitlines(keepends=True)))


def jobs(text: str) -> list[DownloadJob | None]:
    rows = read(text)
    assert [row.defect for row in rows] == [""] * len(rows)
    return [row.job for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "app1,20260131_a.zip\napp2,20260131_b.zip\n",
        "appId,billFileName\napp1,20260131_a.zip\napp2,20260131_b.zip",
        "note,billFileName,appId\nx,20260131_a.zip,app1\ny,20260131_b.zip,app2\n",
        "\ufeffappId;billFileName\r\napp1;20260131_a.zip\r\n\r\napp2;20260131_b.zip\r\n",
        '"appId", "billFileName"\n"app1", 20260131_a.zip\n app2 ,"20260131_b.zip",more\n',
        f"{ONE_AS_JSON}\n\n{TWO_AS_JSON}\n",
        f"\ufeff{ONE_AS_JSON}\n{TWO_AS_JSON}",
    ],
)
def test_a_list_is_read_in_each_of_its_forms(text: str) -> None:
    assert jobs(text) == [ONE, TWO]


@pytest.mark.parametrize("text", ["", "\n \n", "appId,billFileName\n"])
def test_an_empty_list_holds_no_jobs(text: str) -> None:
    assert read(text) == []


def test_outcomes_are_a_list_of_jobs() -> None:
    failed = {"status": "failed", "jobId": "j", "appId": "app1", "billFileName": "20260131_a.zip"}

    assert jobs(json.dumps(failed)) == [ONE]


@pytest.mark.parametrize(
    ("text", "line", "defect"),
    [
        ("appId,billFileName\n\napp1,20260231_a.zip\n", 3, "real calendar date"),
        (f"{ONE_AS_JSON}\n" + '{"a":' * 5000, 2, "the body is not UTF-8 JSON"),
        ("app1,20260131_a.zip\n../x,20260131_a.zip", 2, "appId"),
        ("app1,20260131_a.zip\n\n\napp1\n", 4, "columns: 1; wanted are appId and billFileName"),
        ('{"appId": "app1", "billFileName": "20260131_a.zip"}\napp1,20260131_a.zip', 2, "not UTF-8 JSON"),
        ('{"appId": "app1"}', 1, "billFileName"),
        ('{"appId": "app1", "billFileName": 7}', 1, "billFileName"),
        ("app1,\udcff20260131_a.zip", 1, ""),
        ('"app1,20260131_a.zip\napp1,20260131_a.zip', 1, "columns: 1"),
    ],
)
def test_a_bad_row_is_named_with_its_line(text: str, line: int, defect: str) -> None:
    bad = [row for row in read(text) if row.job is None]

    assert [row.line for row in bad] == [line]
    assert bad[0].defect
    assert defect in bad[0].defect


@given(st.text(max_size=200))
def test_no_text_makes_reading_fail(text: str) -> None:
    for row in read(text):
        assert (row.job is None) == bool(row.defect)
