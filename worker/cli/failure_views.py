"""How failed jobs are shown."""

from datetime import datetime

from worker.broker.browse import COUNTS
from worker.broker.failed_jobs import KeptJob
from worker.cli import terminal
from worker.cli.quantities import age
from worker.errors import one_line

HEAD = ("JOB", "CODE", "ACCOUNT", "FILE", "AGE", "MESSAGE")


def row(kept: KeptJob, now: datetime) -> tuple[str, ...]:
    """A failed job as a row of a table."""
    failure = kept.failure
    if failure is None:
        return (kept.job_id or "?", "?", "-", "-", "-", kept.defect)
    return (
        failure.job_id,
        failure.error_code,
        failure.app_id or "-",
        failure.bill_file_name or "-",
        age((now - failure.finished_at).total_seconds()),
        failure.error_message,
    )


def fields(kept: KeptJob) -> dict[str, object]:
    """A failed job as JSON: its event, its body, its headers and its priority."""
    if kept.failure is None:
        return {"jobId": kept.job_id or None, "defect": kept.defect, "headers": kept.headers}
    event = kept.failure.model_dump(mode="json", by_alias=True)
    return event | {"headers": kept.headers, "priority": kept.priority, "publisher": kept.publisher}


def describe(kept: KeptJob, now: datetime) -> str:
    """A failed job as a page for a person."""
    failure = kept.failure
    if failure is None:
        return f"job  {one_line(kept.job_id) or '?'}\n{kept.defect}"
    ago = age((now - failure.finished_at).total_seconds())
    facts = {
        "job": failure.job_id,
        "account": failure.app_id or "-",
        "file": failure.bill_file_name or "-",
        "code": f"{failure.error_code} ({failure.error_code.meaning})",
        "message": failure.error_message,
        "resultCode": failure.result_code or "-",
        "HTTP status": "-" if failure.http_status is None else str(failure.http_status),
        "attempts": str(failure.attempts),
        "failed": f"{terminal.moment(failure.finished_at)} ({ago} ago) on {failure.worker}",
        **({"publisher": kept.publisher} if kept.publisher else {}),
        **({} if kept.priority is None else {"priority": str(kept.priority)}),
        **{
            one_line(f"header {name}", 60): str(value)
            for name, value in sorted(kept.headers.items())
            if name not in COUNTS
        },
        "body": "not kept" if failure.job is None else f"{len(failure.job.encode())} bytes",
    }
    return terminal.page(facts, None if failure.job is None else failure.job.encode())
