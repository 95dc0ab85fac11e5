"""The secret keys of the developer accounts: a directory with one file per appId."""

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from schemas import ErrorCode
from worker.errors import JobError

MAX_KEY_BYTES = 4096
_BOM = "\ufeff"
_RECENT = 1.0
"""Seconds for which a key is kept in memory."""
_UNITS = ((86_400, "days"), (3600, "h"), (60, "min"))
"""Those that an age of at least two is told in, with their seconds."""

# Non-blocking, since a pipe may lie in a key's place.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class KeyDirectory:
    """Reads keys by appId; blocks for as long as their file system does.

    A key is read again once it is a second old. Its file's times are not compared: they have the grain of the
    kernel's clock, so that a change can be missed. To read one takes four calls of the
    system, each of which releases Python's lock: for every job, that would cost the event loop about as much
    as the whole request.

    Args:
        directory: Holds one file for each account.
        clock: Gives the time in seconds, monotonic.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._recent: dict[str, tuple[float, SecretStr]] = {}

    def names(self) -> list[str]:
        """Return the names of files that may be keys; hidden ones, as in a Kubernetes mount, are not.

        Raises:
            OSError: The directory cannot be read.
        """
        return sorted(path.name for path in self._directory.iterdir() if not path.name.startswith("."))

    def kept(self, app_id: str) -> str | None:
        """Return the secret key of an account if it was read within the last second."""
        now = self._clock()
        self._recent = {name: kept for name, kept in self._recent.items() if now - kept[0] < _RECENT}
        kept = self._recent.get(app_id)
        return None if kept is None else kept[1].get_secret_value()

    def recent(self, app_id: str) -> str:
        """Return the secret key of an account, at most a second old. Raises as `read`."""
        kept = self.kept(app_id)
        if kept is not None:
            return kept
        now = self._clock()
        secret = self.read(app_id)
        self._recent[app_id] = now, SecretStr(secret)
        return secret

    def about(self, app_id: str) -> str:
        """Say which file holds the key of an account, and how old it is. Raises OSError."""
        path = self._directory / app_id
        age = time.time() - path.stat().st_mtime
        size, unit = next((known for known in _UNITS if age >= 2 * known[0]), (1, "s"))
        return f"its key is in {path}, which is {age / size:.0f} {unit} old"

    def read(self, app_id: str) -> str:
        """Return the secret key of an account as it is in its file now, past the cache.

        Args:
            app_id: A valid appId: its character set keeps the file inside the directory.

        Raises:
            JobError: UNKNOWN_APP when there is no usable key, STORAGE_ERROR when the directory or an
                existing file cannot be read.
        """
        path = self._directory / app_id
        self._recent.pop(app_id, None)
        try:
            return _secret(_content(path))
        except OSError as exc:
            # Without its directory a key says nothing about the account: the volume with the keys is gone.
            if isinstance(exc, FileNotFoundError) and self._directory.is_dir():
                reason = f"there is no key file for this account ({app_id})"
                raise JobError(ErrorCode.UNKNOWN_APP, reason) from exc
            reason = f"the key file cannot be read ({app_id}): {os.strerror(exc.errno or 0)}"
            raise JobError(ErrorCode.STORAGE_ERROR, reason) from exc
        except ValueError as exc:
            raise JobError(ErrorCode.UNKNOWN_APP, f"{exc} ({app_id})") from None


class KeysSilentError(JobError):
    """The key directory did not answer in time, which says nothing about the account."""


class Keyring:
    """Reads keys without blocking the event loop: their file system may hang like any other.

    Implements `worker.core.ports.Keys`.

    Args:
        directory: The keys.
        call: Runs a blocking call on a thread, and returns its result.
        patience: Seconds after which a read is given up.
    """

    def __init__(
        self, directory: KeyDirectory, *, call: Callable[[Callable[[], str]], Awaitable[str]], patience: float
    ) -> None:
        self._directory = directory
        self._call = call
        self._patience = patience
        self._asked_for = ""

    async def recent(self, app_id: str) -> str:
        """Return the secret key of an account, at most a second old. Raises as `read`."""
        kept = self._directory.kept(app_id)
        return kept or await self._within(partial(self._directory.recent, app_id), app_id)

    async def read(self, app_id: str) -> str:
        """Return the secret key of an account as it is now; see `KeyDirectory.read`.

        Raises:
            KeysSilentError: There is no answer in time.
            JobError: As `KeyDirectory.read`.
        """
        return await self._within(partial(self._directory.read, app_id), app_id)

    async def about(self, app_id: str) -> str:
        """Say which file holds the key of an account, and how old it is; empty when that is unknown."""
        try:
            return await self._within(partial(self._directory.about, app_id), app_id)
        except (JobError, OSError):
            return ""

    async def wait_for_answer(self) -> None:
        """Wait until the key that was asked for last can be read, or there is an error that says why not."""
        reading = asyncio.ensure_future(self._call(partial(self._directory.read, self._asked_for)))
        # Not awaited itself: a cancelled task would first wait for the call that hangs.
        await asyncio.wait([reading])
        # asyncio logs an error that nobody has looked at.
        reading.exception()

    async def _within(self, read: Callable[[], str], app_id: str) -> str:
        self._asked_for = app_id
        try:
            async with asyncio.timeout(self._patience):
                return await self._call(read)
        except TimeoutError as exc:
            reason = f"the key file cannot be read ({app_id}): no answer within {self._patience:g} s"
            raise KeysSilentError(ErrorCode.STORAGE_ERROR, reason) from exc


def _content(path: Path) -> bytes:
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        # Kubernetes removes the old files right after it has swapped the link to the new ones. That may
        # happen after we followed the link and before we opened the file.
        descriptor = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("the key file is no regular file")
        return os.read(descriptor, MAX_KEY_BYTES + 1)
    finally:
        os.close(descriptor)


def _secret(raw: bytes) -> str:
    if len(raw) > MAX_KEY_BYTES:
        raise ValueError(f"the key file is larger than {MAX_KEY_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = None
    if text is None:
        # Out here: as the context of this error, that exception would carry the key into a traceback.
        raise ValueError("the key file is not UTF-8 text")
    secret = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    if problem := _problem(secret):
        raise ValueError(f"the key file {problem}")
    return secret


def _problem(secret: str) -> str:
    """Return why a text is not a key alone; with such a key CC-FS would only answer 401."""
    if not secret:
        return "is empty"
    if secret.startswith(_BOM):
        return "begins with a byte order mark: save it as UTF-8 without one"
    if "\n" in secret or "\r" in secret:
        return "holds more than one line: write the key into it, and at most one newline"
    if secret != secret.strip():
        return "begins or ends with a blank: write the key into it, and nothing else"
    if not secret.isprintable():
        return "holds a control character: write the key into it, and nothing else"
    return ""
