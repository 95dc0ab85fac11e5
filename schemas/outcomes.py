"""The outcomes: what consumers of results get, at least one for each job."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, WithJsonSchema

from schemas.errors import ErrorCode
from schemas.types import AppId, BillFileName, ContractModel, FilePath, Line, Sha256, Timestamp

MAX_ENTRIES = 32
"""The most files of a zip that an event names."""
MAX_ENTRY_NAME = 255
"""The most characters of such a name; a longer one is cut."""

_CODES = "\n".join(f"- `{code}`: {code.meaning}" for code in ErrorCode)


class _Outcome(ContractModel):
    """What both outcomes share. A field that is declared again below keeps its place in the body."""

    status: Literal["completed", "failed"]
    job_id: Annotated[
        str,
        Field(min_length=1, max_length=255, examples=["app1/20180702_9239cb50a8384bb0ab503441bf089446.zip"]),
    ]
    """The job's `message_id`, else `{appId}/{billFileName}`, else the unreadable body's SHA-256 in hex."""
    app_id: AppId | None
    bill_file_name: BillFileName | None
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


class ArchiveEntry(ContractModel):
    """A file in a zip."""

    name: Annotated[Line, Field(max_length=MAX_ENTRY_NAME, examples=["20180702101500123456_call_1.csv"])]
    """As the zip has it, in one line; no path to write to."""
    size_bytes: Annotated[int, Field(ge=0, examples=[81920])]
    """Its size once unpacked."""


class DownloadCompleted(_Outcome):
    """The whole, verified file is durable under its final name."""

    status: Literal["completed"] = "completed"
    """Always `completed`."""
    app_id: AppId
    """The job's account."""
    bill_file_name: BillFileName
    """The job's file."""
    path: Annotated[FilePath, Field(examples=["app1/20180702/20180702_9239cb50a8384bb0ab503441bf089446.zip"])]
    """Where the file lies, seen from the storage root: `{appId}/{yyyyMMdd}/{billFileName}`."""
    size_bytes: Annotated[int, Field(ge=0, examples=[20480])]
    """The file's size."""
    sha256: Annotated[
        Sha256, Field(examples=["cc61635da46b2c9974335ea37e0b5fd660a5c8a42a89b271fa7ec2ac4b8b26f6"])
    ]
    """The file's digest, lower-case hex."""
    entries: Annotated[
        tuple[ArchiveEntry, ...],
        Field(
            max_length=MAX_ENTRIES,
            examples=[[{"name": "20180702101500123456_call_1.csv", "sizeBytes": 81920}]],
        ),
    ] = ()
    """What the zip holds, in its order: the first 32 files; directories are left out."""
    entry_count: Annotated[int, Field(ge=0, examples=[1])] = 0
    """How many files it holds."""
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
    error_code: Annotated[
        ErrorCode,
        WithJsonSchema({"type": "string", "enum": [code.value for code in ErrorCode]}),
        Field(description=f"Why, for a program.\n\n{_CODES}", examples=["FILE_NOT_FOUND"]),
    ]
    error_message: Annotated[
        Line, Field(max_length=500, examples=["CC-FS refused the download: resultCode 0300011"])
    ]
    """Why, for a human: one line without secrets."""
    result_code: Annotated[Line | None, Field(examples=["0300011"])]
    """CC-FS's own code, when it gave one."""
    http_status: Annotated[int | None, Field(ge=0, le=999, examples=[200])]
    """The HTTP status of CC-FS's answer, when there was one."""


class FailedJob(DownloadFailed):
    """A failed event as it is kept for operators, with the job that it is about."""

    job: Annotated[str | None, Field(examples=['{"appId": "app1", "billFileName": "20180702_9239cb.zip"}'])]
    """The job's body as it was published; null when it is larger than a job may be, or no UTF-8 text."""


Outcome = DownloadCompleted | DownloadFailed

_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Annotated[Outcome, Field(discriminator="status")])


def read_failed_job(body: bytes) -> FailedJob:
    """Read the body of a message in the queue of failed jobs.

    Raises:
        pydantic.ValidationError: It is no failed job of the contract; a subclass of ValueError.
    """
    return FailedJob.model_validate_json(body, by_alias=True, by_name=False)


def read_outcome(body: bytes) -> Outcome:
    """Read the body of an event.

    Raises:
        pydantic.ValidationError: It is no outcome of the contract; a subclass of ValueError.
    """
    return _OUTCOME.validate_json(body, by_alias=True, by_name=False)
