"""CC-FS, the accounts' keys and the volume, behind the protocols of `worker.core.ports`."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from schemas import DownloadJob, ErrorCode
from tests.orders.rules import Rules
from worker.core.gate import Gate
from worker.core.outcome import StoredFile
from worker.core.ports import Chunk, Stream
from worker.core.progress import Progress
from worker.errors import JobError

_OK, _GATEWAY_TIMEOUT, _TOO_MANY = 200, 504, 429
_SILENT = ErrorCode.UPSTREAM_UNREACHABLE

_ANSWERS: dict[str, Callable[[], JobError]] = {
    "missing": lambda: JobError(ErrorCode.FILE_NOT_FOUND, "0300011", result_code="0300011", http_status=_OK),
    "rejected": lambda: JobError(
        ErrorCode.REQUEST_REJECTED, "0300001", result_code="0300001", http_status=_OK
    ),
    "busy account": lambda: JobError(
        ErrorCode.FLOW_CONTROL, "0300008", result_code="0300008", http_status=_OK
    ),
    "busy firewall": lambda: JobError(ErrorCode.FLOW_CONTROL, "429", http_status=_TOO_MANY),
    "stay away": lambda: JobError(ErrorCode.FLOW_CONTROL, "429", http_status=_TOO_MANY, retry_after=7),
    "broken": lambda: JobError(ErrorCode.UPSTREAM_ERROR, "504", http_status=_GATEWAY_TIMEOUT),
    "unauthorized": lambda: JobError(ErrorCode.UNAUTHORIZED, "401", http_status=401),
    "unreachable": lambda: JobError(_SILENT, "reset"),
    "late": lambda: JobError(ErrorCode.TIMEOUT, "no headers in time"),
}
_BODIES: dict[str, Callable[[], JobError]] = {
    "cut": lambda: JobError(ErrorCode.TRUNCATED, "cut", http_status=_OK),
    "no zip": lambda: JobError(ErrorCode.CORRUPT_ARCHIVE, "no zip", http_status=_OK),
    "disk": lambda: JobError(ErrorCode.STORAGE_ERROR, "EIO", http_status=_OK),
    "full": lambda: JobError(ErrorCode.STORAGE_FULL, "ENOSPC", http_status=_OK),
}


@dataclass(frozen=True, slots=True)
class File:
    """A file on its way."""

    announced_bytes: int | None
    chunks: AsyncIterator[Chunk]


async def _chunks() -> AsyncIterator[Chunk]:
    yield b""


@dataclass
class Ccfs:
    """Answers as it is drawn: `worker.core.ports.Source` and `Keys`.

    Attributes:
        dice: Draws.
        is_well: Every answer is a file, and soon.
        is_silent: Nothing answers.
        key_numbers: Which key each account has.
        keyless: The accounts whose key file is gone.
        refusing: The accounts whose key CC-FS refuses.
    """

    dice: random.Random
    rules: Rules
    is_well: bool = False
    is_silent: bool = False
    key_numbers: dict[str, int] = field(default_factory=dict)
    keyless: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)

    async def recent(self, app_id: str) -> str:
        """Give a key."""
        if app_id in self.keyless:
            raise JobError(ErrorCode.UNKNOWN_APP, "no key", asked=False)
        self.rules.with_key.add(app_id)
        return self._key(app_id)

    read = recent

    async def about(self, app_id: str) -> str:
        """Nothing to say."""
        return ""

    def disturb_key(self, app_id: str) -> None:
        """Lose an account's key, have it refused, or mend that."""
        what = self.dice.choice(("lose", "refuse", "refuse", "mend", "mend", "rotate"))
        self.rules.tell(f"key of {app_id}: {what}")
        if what == "lose":
            self.keyless.add(app_id)
        elif what == "refuse":
            self.refusing.add(app_id)
        else:
            self.mend_key(app_id, rotated=what == "rotate")

    def mend_key(self, app_id: str, *, rotated: bool = False) -> None:
        """Have CC-FS accept the account's key, another one or the same."""
        if rotated:
            self.key_numbers[app_id] = self.key_numbers.get(app_id, 0) + 1
        self.keyless.discard(app_id)
        self.refusing.discard(app_id)

    def _key(self, app_id: str) -> str:
        return f"key {self.key_numbers.get(app_id, 0)} of {app_id}"

    def open(
        self, job: DownloadJob, secret_key: str, progress: Progress
    ) -> AbstractAsyncContextManager[Stream]:
        """Answer a request."""
        return self._open(job, secret_key, progress)

    async def probe(self) -> None:
        """Answer a probe."""
        await asyncio.sleep(self.dice.choice((0, 0.5)))
        if self.is_silent:
            raise JobError(_SILENT, "still silent")

    @asynccontextmanager
    async def _open(self, job: DownloadJob, secret_key: str, progress: Progress) -> AsyncIterator[Stream]:
        progress.asked = True
        sent = asyncio.get_running_loop().time()
        await asyncio.sleep(self.dice.choice((0, 0, 0.5, 1)))
        if self.is_silent:
            raise JobError(_SILENT, "silent")
        if job.app_id in self.refusing or secret_key != self._key(job.app_id):
            refuse = _ANSWERS["unauthorized"]
            raise refuse()
        if not self.is_well and self.dice.random() < 0.4:
            error = _ANSWERS[self.dice.choice(list(_ANSWERS))]()
            if error.http_status == _OK:
                self.rules.accepted_at[job.app_id] = sent
            raise error
        self.rules.accepted_at[job.app_id] = sent
        progress.http_status = _OK
        yield File(3, _chunks())


@dataclass
class Volume:
    """Keeps files: `worker.core.ports.Store`; and looks after itself: `worker.core.ports.Watch`.

    Attributes:
        dice: Draws.
        gate: Is closed while it is full.
        is_well: Every file can be stored, and soon.
        files: Those that are whole.
    """

    dice: random.Random
    gate: Gate
    is_well: bool = False
    files: set[PurePosixPath] = field(default_factory=set)

    async def find(self, path: PurePosixPath) -> StoredFile | None:
        """Give a file that is there."""
        await asyncio.sleep(self.dice.choice((0, 0.5)))
        return _stored(path, reused=True) if path in self.files else None

    async def store(
        self,
        path: PurePosixPath,
        chunks: AsyncIterator[Chunk],
        *,
        announced_bytes: int | None,
        progress: Progress,
    ) -> StoredFile:
        """Take as long, and fail, as it is drawn."""
        await asyncio.sleep(0.5 if self.is_well else self.dice.choice((0, 0.5, 1, 2, 60)))
        if not self.is_well and self.dice.random() < 0.2:
            spoil = _BODIES[self.dice.choice(list(_BODIES))]
            raise spoil()
        self.files.add(path)
        return _stored(path, reused=False)

    async def failed(self, error: JobError) -> bool:
        """Be full for a while."""
        if error.code is not ErrorCode.STORAGE_FULL:
            return False
        await asyncio.sleep(self.dice.choice((0, 0.5)))
        self.gate.close("storage", error.message)
        asyncio.get_running_loop().call_later(self.dice.choice((0, 5)), self.gate.open, "storage")
        return True

    def succeeded(self) -> None:
        """Hear of a file; its looks decide."""


def _stored(path: PurePosixPath, *, reused: bool) -> StoredFile:
    return StoredFile(path=str(path), size_bytes=3, sha256="0" * 64, reused=reused)
