"""The outcomes: what consumers of results get, at least one for each job."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.errors import ErrorCode
from schemas.types import AppId, BillFileName, Message, RelativePath, Sha256, Timestamp


class _Outcome(Message):
    job_id: Annotated[
        str, Field(min_length=1, examples=["app1/20180702_9239cb50a8384bb0ab503441bf089446.zip"])
    ]
    """The job message's `message_id`; without one `{appId}/{billFileName}`, or the lower-case hex
    SHA-256 of an unreadable body."""
    attempts: Annotated[int, Field(ge=1, examples=[1])]
    """Attempts made, the last one included; the second request after a 401 is not counted."""
    started_at: Annotated[Timestamp, Field(examples=["2026-01-31T08:15:00.123Z"])]
    """When the last attempt began: RFC 3339, UTC, milliseconds."""
    finished_at: Annotated[Timestamp, Field(examples=["2026-01-31T08:15:01.456Z"])]
    """When it ended."""
    worker: Annotated[str, Field(examples=["ccfs-worker-7d9f"])]
    """Host name of the worker."""

    def to_json(self) -> bytes:
        """The event's body: UTF-8 JSON."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True)


class DownloadCompleted(_Outcome):
    """The whole, verified file is durable under its final name."""

    status: Literal["completed"] = "completed"
    """Always `completed`."""
    app_id: AppId
    bill_file_name: BillFileName
    path: Annotated[
        RelativePath, Field(examples=["app1/20180702/20180702_9239cb50a8384bb0ab503441bf089446.zip"])
    ]
    """Where the file lies: relative to the storage root, `/`-separated."""
    size_bytes: Annotated[int, Field(ge=0, examples=[20480])]
    """The file's size."""
    sha256: Annotated[
        Sha256, Field(examples=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"])
    ]
    """The file's digest, lower-case hex."""
    reused: Annotated[bool, Field(examples=[False])]
    """True when a good file was already there and nothing was downloaded."""


class DownloadFailed(_Outcome):
    """The job is over without a file."""

    status: Literal["failed"] = "failed"
    """Always `failed`."""
    app_id: AppId | None
    """The job's account; null when unreadable."""
    bill_file_name: BillFileName | None
    """The job's file; null when unreadable."""
    error_code: Annotated[ErrorCode, Field(examples=["FILE_NOT_FOUND"])]
    """Why, for a program."""
    error_message: Annotated[str, Field(examples=["CC-FS refused the download: resultCode 0300011"])]
    """Why, for a human: one line without secrets."""
    result_code: Annotated[str | None, Field(examples=["0300011"])] = None
    """CC-FS's own code, when it gave one."""
    http_status: Annotated[int | None, Field(examples=[200])] = None
    """The HTTP status of CC-FS's answer, when there was one."""


Outcome = DownloadCompleted | DownloadFailed
