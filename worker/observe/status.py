"""What a worker says of itself at `GET /status`: its page and `ccfs-worker top` show nothing else.

Names are in camelCase, as in the messages. Fields may be added; whoever reads ignores what it does not know.
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
    """In one word, what the worker is about."""

    WORKING = auto()
    """It takes jobs."""
    PAUSED = auto()
    """It takes none for a while; `intake.pauses` says why."""
    DISCONNECTED = auto()
    """It has no session with RabbitMQ; the check `broker` says why."""
    DRAINING = auto()
    """It was told to end, and finishes what it has in hand."""


class Step(StrEnum):
    """Where a job in hand stands."""

    WAITING = auto()
    """For a place to download."""
    DOWNLOADING = auto()
    """Its file is being looked for, comes in, or is made durable."""
    PUBLISHING = auto()
    """Its outcome, or its copy for another attempt, is on its way to RabbitMQ."""


class CheckStatus(_Part):
    """A check of `/readyz`."""

    ok: bool
    detail: str
    """What is wrong, as one line; empty when nothing is."""


class IntakeStatus(_Part):
    """Whether new jobs are taken."""

    open: bool
    pauses: dict[str, str]
    """By reason, why not, in words."""
    in_flight: int
    """Jobs in hand."""
    downloads: int
    """Downloads under way or waiting for their place."""
    concurrency: int
    """Downloads at once as configured."""
    concurrency_limit: int
    """Downloads at once now; lower while CC-FS asks to slow down."""


class SessionStatus(_Part):
    """The session with RabbitMQ."""

    connected: bool
    opened: int
    """Sessions since the start; more than one means that connections were lost."""


class QueuesStatus(_Part):
    """What waits in RabbitMQ, asked when this status was; there a cluster's workers see the same."""

    ready: dict[str, int]
    """By queue, messages that wait to be delivered."""
    age_seconds: float | None
    """How old these numbers are; null when none could be had yet."""


class RatesStatus(_Part):
    """Over the last minute, per second."""

    completed: float = 0.0
    failed: float = 0.0
    retried: float = 0.0
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
    """The volume."""

    free_bytes: int | None
    """Null when it cannot be looked at."""
    reserved_bytes: int
    """What is to stay free; below, intake pauses."""
    silent_seconds: float = 0.0
    """For how long the call that has waited longest for the volume has waited; 0 without any."""


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
    """What has come of its file."""
    announced_bytes: int | None
    """Null before CC-FS has answered, or when it did not say."""
    problem: str
    """Why it cannot go on; empty when it does."""


class Status(_Part):
    """A worker as it is now."""

    version: str
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
    jobs: list[JobStatus]
    """What is in hand, oldest first."""

    def to_json(self) -> bytes:
        """As `GET /status` gives it."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True)
