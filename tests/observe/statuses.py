"""A status to show: of a worker that is busy and has troubles of every kind."""

from datetime import UTC, datetime, timedelta

from worker.observe.status import (
    AccountStatus,
    CheckStatus,
    FailureStatus,
    HoldStatus,
    IntakeStatus,
    JobStatus,
    MinuteStatus,
    QueuesStatus,
    RatesStatus,
    SessionStatus,
    State,
    Status,
    Step,
    StorageStatus,
    TotalsStatus,
)

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
MIB = 1024**2


def job(number: int, **changes: object) -> JobStatus:
    fields: dict[str, object] = {
        "job_id": f"1f0c6d1e-7c1b-4c55-9d0e-{number:012d}",
        "app_id": "app1",
        "bill_file_name": f"20260131_9239cb50a8384bb0ab503441bf{number:06d}.zip",
        "attempt": 1,
        "since": NOW - timedelta(seconds=90),
        "seconds": 90.0,
        "step": Step.DOWNLOADING,
        "received_bytes": 3 * MIB,
        "announced_bytes": 12 * MIB,
        "problem": "",
    }
    return JobStatus.model_validate(fields | changes)


BUSY = Status(
    version="1.2.3",
    host="ccfs-worker-7d9f",
    now=NOW,
    started_at=NOW - timedelta(hours=5),
    uptime_seconds=5 * 3600,
    state=State.PAUSED,
    checks={
        "broker": CheckStatus(ok=True, detail=""),
        "intake": CheckStatus(ok=False, detail="paused: storage: 7 bytes are free"),
    },
    intake=IntakeStatus(
        open=False,
        pauses={"storage": "storage: 7 bytes are free and 256 are to stay free"},
        in_flight=3,
        downloads=2,
        concurrency=16,
        concurrency_limit=4,
        limit_reason="asked to slow down: CC-FS answered HTTP 429",
        paused_since={"storage": NOW - timedelta(minutes=12)},
    ),
    runbook="https://forge.example/blob/main/docs/runbook.md",
    session=SessionStatus(connected=True, opened=2),
    queues=QueuesStatus(
        ready={"ccfs.jobs": 1200, "ccfs.jobs.retry.10s": 3, "ccfs.dead": 1},
        roles={"ccfs.jobs": "jobs", "ccfs.jobs.retry.10s": "retry", "ccfs.dead": "dead"},
        unknown={"ccfs.failed": "its leader is silent"},
        jobs_per_second=-2.5,
        age_seconds=1.0,
    ),
    rates=RatesStatus(completed=151.2, failed=0.25, retried=1.5, downloaded_bytes=3.3 * MIB, deferred=0.5),
    totals=TotalsStatus(
        completed=123_456,
        failed=12,
        attempts_failed={"TIMEOUT": 40, "FILE_NOT_FOUND": 12},
        outcomes_failed={"FILE_NOT_FOUND": 12},
        downloaded_bytes=5 * 1024**3,
    ),
    minutes=[
        MinuteStatus(
            at=NOW - timedelta(minutes=59 - minute),
            completed=200 + 37 * minute % 150,
            failed=minute % 7 // 6,
            downloaded_bytes=(3 + minute % 5) * MIB,
        )
        for minute in range(60)
    ],
    accounts=[
        AccountStatus(
            app_id="app7",
            in_hand=0,
            waiting=0,
            failed=0,
            held=HoldStatus(
                since=NOW - timedelta(hours=2),
                error_code="UNAUTHORIZED",
                reason="CC-FS answered HTTP 401",
                tried_at=NOW - timedelta(seconds=30),
                waiting=1234,
                fail_at=NOW + timedelta(hours=10),
            ),
        ),
        AccountStatus(app_id="app1", in_hand=2, waiting=1, failed=12),
        AccountStatus(app_id="app2", in_hand=1, waiting=0, failed=0),
    ],
    failures=[
        FailureStatus(
            at=NOW - timedelta(minutes=number + 3),
            job_id=f"job-{number}",
            app_id="app1",
            bill_file_name=f"20260131_gone{number}.zip",
            code="FILE_NOT_FOUND",
            reason="resultCode 0300011: the file does not exist",
        )
        for number in range(3)
    ],
    storage=StorageStatus(
        size_bytes=100 * 1024**3,
        free_inodes=6_000_000,
        inodes=6_553_600,
        free_bytes=7 * 1024**3,
        reserved_bytes=256 * MIB,
    ),
    jobs=[
        job(1),
        job(2, step=Step.WAITING, received_bytes=0, announced_bytes=None),
        job(3, app_id=None, bill_file_name=None, step=Step.PUBLISHING, problem="no queue takes 'failed'"),
    ],
)
