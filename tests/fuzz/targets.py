"""What is fuzzed: a few functions that take anything, and what must hold of what they make of it."""

import io
import os.path
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, cast

from pydantic import ValidationError

from schemas import DownloadJob, ErrorCode
from tests.ccfs.samples import make_zip
from tests.fuzz.messages import a_message_goes_round
from tests.malformed import GOOD, MALFORMED
from worker.ccfs.answers import LONGEST_RETRY_AFTER, RESULT_CODES, is_file, refusal
from worker.ccfs.hints import redirected
from worker.core.job import Envelope, read_job
from worker.core.paths import final_path, is_part, part_name
from worker.storage.stop import Stop
from worker.storage.zip_file import CorruptArchiveError, check_archive

Target = Callable[[bytes], None]

_NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
_ROOT = "/srv/bills"
_ANSWER_PARTS = 5
_LONGEST_HINT = 400
MAX_SEED = 4096
"""Bytes that inputs have at most: with more each takes longer and says no more."""
_NEVER = {ErrorCode.INVALID_JOB, ErrorCode.UNKNOWN_APP, ErrorCode.INTERNAL_ERROR, ErrorCode.DELIVERY_LIMIT}


def read_a_job(data: bytes) -> None:
    """A message's body is a job or has a defect, and never makes reading fail."""
    job = read_job(Envelope(body=data))
    assert job.job_id
    assert (job.request is None) == bool(job.defect)
    if job.request is not None:
        _lies_under_the_root(job.request)


def classify_an_answer(data: bytes) -> None:
    """An answer has exactly one code, and one line for a human.

    Args:
        data: Status, content type, content encoding and Retry-After, a newline after each, then the body.
    """
    parts = data.split(b"\n", _ANSWER_PARTS - 1)
    status, content_type, encoding, retry_after = (
        part.decode("utf-8", "surrogateescape") for part in [*parts, b"", b"", b"", b""][:4]
    )
    body = parts[-1] if len(parts) == _ANSWER_PARTS else b""
    code = int(status) if status.isascii() and status.isdigit() and len(status) <= 3 else 200
    if is_file(code, body[:4]):
        return
    headers = {"content-type": content_type, "content-encoding": encoding, "retry-after": retry_after}
    error = refusal(code, headers, body, _NOW)
    assert error.code not in _NEVER
    assert error.http_status == code
    assert error.message.isprintable()
    assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_RETRY_AFTER


def name_a_redirect(data: bytes) -> None:
    """Whatever a Location header says, its origin is one line for a human, and the rest is not told."""
    said = redirected(data.decode("latin-1"))
    assert said.isprintable()
    assert len(said) < _LONGEST_HINT


def build_a_path(data: bytes) -> None:
    """No account and file name that the model takes leads anywhere but three levels below the root.

    Args:
        data: The account, a newline, and the file's name.
    """
    app_id, _, name = data.decode("utf-8", "surrogateescape").partition("\n")
    with suppress(ValidationError):
        _lies_under_the_root(DownloadJob(app_id=app_id, bill_file_name=name))


def check_a_zip(data: bytes) -> None:
    """A file is a sound zip or a corrupt one."""
    with suppress(CorruptArchiveError):
        check_archive(io.BytesIO(data), Stop())


def _lies_under_the_root(job: DownloadJob) -> None:
    path = final_path(job)
    assert os.path.normpath(f"{_ROOT}/{path}") == f"{_ROOT}/{path}"
    assert path.parts == (job.app_id, job.bill_date, job.bill_file_name)
    assert not any(part.startswith(".") for part in path.parts)
    assert is_part(path.with_name(part_name(path.name, "1f")))
    assert not is_part(PurePosixPath(path))


TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "job": (
        read_a_job,
        [GOOD, *(message.body for message in MALFORMED.values() if len(message.body) <= MAX_SEED)],
    ),
    "redirect": (
        name_a_redirect,
        [
            b"https://login.example.com/?token=secret",
            b"http://user:secret@[::1]:8080/",
            b"/login",
            b"http://\xfc/",
        ],
    ),
    "answer": (
        classify_an_answer,
        [
            b"200\napplication/json\n\n\n" + b'{"resultCode": "%s", "resultDesc": "no"}' % code.encode()
            for code in RESULT_CODES
        ]
        + [
            b'200\n\n\n\n\xef\xbb\xbf {"response": {"resultCode": "0300008", "resultMsg": "slow"}}',
            b"503\ntext/html\ngzip\nSat, 31 Jan 2026 08:17:00 GMT\n<html>",
            b"429\n\n\n120\n",
        ],
    ),
    "path": (build_a_path, [b"app1\n20260131_a.zip", b"..\n20260131_a.zip", b"a/b\n../../etc/passwd"]),
    "message": (cast("Any", a_message_goes_round).hypothesis.fuzz_one_input, [b"\0" * 64]),
    "zip": (check_a_zip, [make_zip(), make_zip(b"a", b"b", method=0), make_zip()[:-1]]),
}
"""Each target with inputs to start from."""
