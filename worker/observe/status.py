"""The body of `GET /status`, which the worker's page and `ccfs-worker top` show.

Names are in camelCase, as in the messages. Fields may be added: a reader ignores those that it does not know.
"""

from datetime import datetime
from enum import StrEnum, auto
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


class State(StrEnum):
    """The state of the worker, in one word."""

    WORKING = auto()
    """It takes jobs."""
    PAUSED = auto()
    """It takes none for a while; `intake.pauses` says why."""
    DISCONNECTED = auto()
    """It has no session with RabbitMQ; the check `broker` says why."""
    DRAINING = auto()
    """It is shutting down, and finishes the jobs in hand."""


class Step(StrEnum):
    """Where a job in hand stands."""

    WAITING = auto()
    """It waits for a place to download."""
    DOWNLOADING = auto()
    """Its file is requested, received or made durable."""
    PUBLISHING = auto()
    """Its outcome, or its copy for another attempt, is being published."""


class CheckStatus(_Part):
    """A check of `/readyz`."""

    ok: bool
    detail: str
    """What is wrong, as one line; empty when nothing is."""


class IntakeStatus(_Part):
    """Whether new jobs are taken."""

    open: bool
    pauses: dict[str, str]
    """By reason, why intake is paused, in words."""
    paused_since: dict[str, datetime] = {}
    """By reason, since when."""
    in_flight: int
    """Jobs in hand."""
    downloads: int
    """Downloads under way or waiting for their place."""
    concurrency: int
    """Concurrent downloads as configured."""
    concurrency_limit: int
    """Concurrent downloads now; lower while CC-FS asks to slow down."""
    limit_reason: str = ""
    """Why it is lower; empty when it is not."""


class SessionStatus(_Part):
    """The session with RabbitMQ."""

    connected: bool
    opened: int
    """Sessions since the start; more than one means that connections were lost."""


class QueuesStatus(_Part):
    """What waits in RabbitMQ; all workers on one broker see the same."""

    ready: dict[str, int]
    """By queue, messages that wait to be delivered."""
    unknown: dict[str, str] = {}
    """By queue, why their number is unknown: RabbitMQ answers 0 for a queue without a leader, too."""
    roles: dict[str, str] = {}
    """By queue, what is in it: `jobs`, `retry`, `held`, `results`, `dead`, `failed` or `dropped`."""
    jobs_per_second: float | None = None
    """How fast the queue of jobs grew over the last minute; negative when it shrank, null when unknown."""
    age_seconds: float | None
    """The age of these numbers; null before RabbitMQ has answered."""


class RatesStatus(_Part):
    """Per second, over the last minute."""

    completed: float = 0.0
    failed: float = 0.0
    retried: float = 0.0
    deferred: float = 0.0
    """Went back uncounted, since they could not be tried."""
    downloaded_bytes: float = 0.0


class TotalsStatus(_Part):
    """Since the start."""

    completed: int
    failed: int
    attempts_failed: dict[str, int]
    """By error code, attempts that failed, those that are tried again included."""
    outcomes_failed: dict[str, int]
    """By error code, jobs that failed for good."""
    downloaded_bytes: int


class StorageStatus(_Part):
    """The storage volume."""

    free_bytes: int | None
    """Null when unknown."""
    size_bytes: int | None = None
    """Null when unknown, as the two below."""
    free_inodes: int | None = None
    """Files and directories that can still be made."""
    inodes: int | None = None
    """All that the volume can hold; null, too, without a limit."""
    reserved_bytes: int
    """Bytes that stay free; intake pauses below."""
    silent_seconds: float = 0.0
    """How long the longest unanswered call to the volume has waited; 0 without one."""


class MinuteStatus(_Part):
    """What was done in a minute."""

    at: datetime
    """When it began."""
    completed: int
    failed: int
    downloaded_bytes: int


class HoldStatus(_Part):
    """Why an account's jobs wait: its key is refused or gone."""

    since: datetime
    """Since when this worker holds its jobs."""
    error_code: str
    reason: str
    """The last refusal, in words."""
    tried_at: datetime
    """When one of its jobs was tried last."""
    waiting: int
    """About how many of its jobs this worker has put to wait in RabbitMQ; other workers count their own."""
    fail_at: datetime
    """When the jobs that have waited since then fail, unless the key is mended first."""


class AccountStatus(_Part):
    """An account that this worker has to do with now."""

    app_id: str
    in_hand: int
    """Its jobs in hand."""
    waiting: int
    """Those of them that wait for a place to download."""
    failed: int
    """Its jobs that failed within the last hour, as far as they are kept."""
    held: HoldStatus | None = None
    """Null unless its jobs wait for its key."""


class FailureStatus(_Part):
    """A job that failed for good."""

    at: datetime
    job_id: str
    app_id: str | None
    """Null when unreadable, like the file's name."""
    bill_file_name: str | None
    code: str
    reason: str


class JobStatus(_Part):
    """A job that the worker has in hand."""

    job_id: str
    app_id: str | None
    """Null when unreadable, like the file's name."""
    bill_file_name: str | None
    attempt: int
    since: datetime
    seconds: float
    """How long it has been in hand."""
    step: Step
    received_bytes: int
    """Bytes of its file received so far."""
    announced_bytes: int | None
    """Null before CC-FS has answered, or when it did not say."""
    problem: str
    """Why it cannot continue; empty when it can."""


class Status(_Part):
    """A worker's state at `now`."""

    version: str
    runbook: str = ""
    """Where the runbook is; empty when the package does not say."""
    host: str
    now: datetime
    started_at: datetime
    uptime_seconds: Annotated[float, Field(ge=0)]
    state: State
    checks: dict[str, CheckStatus]
    intake: IntakeStatus
    session: SessionStatus
    queues: QueuesStatus
    rates: RatesStatus
    totals: TotalsStatus
    storage: StorageStatus
    minutes: list[MinuteStatus] = []
    """The last hour by the minute, oldest first; the last one is not over yet."""
    accounts: list[AccountStatus] = []
    """Accounts that are held, then those with jobs that failed or are in hand; at most 50."""
    failures: list[FailureStatus] = []
    """The jobs that failed last, newest first; at most 10."""
    jobs: list[JobStatus]
    """Jobs in hand, oldest first."""

    def to_json(self) -> bytes:
        """The body of `GET /status`."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True)
