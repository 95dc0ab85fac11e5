"""Draws the messages of the contract, and what they are made of."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from schemas import ArchiveEntry, DownloadCompleted, DownloadFailed, DownloadJob, ErrorCode

app_ids = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)
file_names = st.builds(
    lambda day, response_id: f"{day:%Y%m%d}_{response_id}.zip".rjust(13 + len(response_id), "0"),
    st.dates(),
    st.from_regex(r"[A-Za-z0-9-]{1,36}", fullmatch=True),
)
jobs = st.builds(lambda app_id, name: DownloadJob(app_id=app_id, bill_file_name=name), app_ids, file_names)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_printable = st.characters(exclude_categories=["Cc", "Cs"])
lines = st.text(_printable, max_size=500)

_shared: dict[str, st.SearchStrategy[Any]] = {
    "job_id": st.text(min_size=1, max_size=255),
    "attempts": st.integers(1, 10**9),
    "started_at": moments,
    "finished_at": moments,
    "worker": st.text(max_size=64),
}
completed = st.fixed_dictionaries(
    {
        **_shared,
        "app_id": app_ids,
        "bill_file_name": file_names,
        "path": st.builds(lambda app, name: f"{app}/{name[:8]}/{name}", app_ids, file_names),
        "size_bytes": st.integers(0, 2**63),
        "sha256": st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        "entries": st.lists(
            st.builds(ArchiveEntry, name=st.text(_printable, max_size=255), size_bytes=st.integers(0, 2**63)),
            max_size=32,
        ).map(tuple),
        "entry_count": st.integers(0, 10_000),
        "reused": st.booleans(),
    }
).map(lambda fields: DownloadCompleted(**fields))
failed = st.fixed_dictionaries(
    {
        **_shared,
        "app_id": st.none() | app_ids,
        "bill_file_name": st.none() | file_names,
        "error_code": st.sampled_from(ErrorCode),
        "error_message": lines,
        "result_code": st.none() | lines,
        "http_status": st.none() | st.integers(0, 999),
    }
).map(lambda fields: DownloadFailed(**fields))
