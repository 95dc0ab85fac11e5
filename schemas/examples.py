"""The messages by example, as they are on the wire."""

import json
from typing import Any

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

JOB = {"appId": "app1", "billFileName": "20180702_9239cb50a8384bb0ab503441bf089446.zip"}
_ENDED = {
    "startedAt": "2026-01-31T08:15:00.123Z",
    "finishedAt": "2026-01-31T08:15:01.456Z",
    "worker": "ccfs-worker-7d9f",
}
COMPLETED: dict[str, Any] = {
    "status": "completed",
    "jobId": "app1/20180702_9239cb50a8384bb0ab503441bf089446.zip",
    **JOB,
    "path": "app1/20180702/20180702_9239cb50a8384bb0ab503441bf089446.zip",
    "sizeBytes": 20480,
    "sha256": "cc61635da46b2c9974335ea37e0b5fd660a5c8a42a89b271fa7ec2ac4b8b26f6",
    "entries": [
        {"name": "20180702101500123456_call_1.csv", "sizeBytes": 81920},
        {"name": "20180702101500123456_record_1.csv", "sizeBytes": 4096},
    ],
    "entryCount": 2,
    "attempts": 1,
    "reused": False,
    **_ENDED,
}
NOT_FOUND: dict[str, Any] = {
    "status": "failed",
    "jobId": "bills-2018-07-02-1",
    **JOB,
    "errorCode": "FILE_NOT_FOUND",
    "errorMessage": "CC-FS refused the download: resultCode 0300011, the file does not exist",
    "resultCode": "0300011",
    "httpStatus": 200,
    "attempts": 3,
    **_ENDED,
}
FAILED_JOB: dict[str, Any] = {**NOT_FOUND, "job": json.dumps(JOB)}
INVALID: dict[str, Any] = {
    "status": "failed",
    "jobId": "bills-2018-07-02-2",
    "appId": None,
    "billFileName": None,
    "errorCode": "INVALID_JOB",
    "errorMessage": "the body is JSON but not an object",
    "resultCode": None,
    "httpStatus": None,
    "attempts": 1,
    **_ENDED,
}
