"""The secret keys of the developer accounts: a directory with one file per appId."""

import os
from dataclasses import dataclass
from pathlib import Path

from schemas import ErrorCode
from worker.errors import JobError

MAX_KEY_BYTES = 4096

# Identity and time of the file that a path leads to now. A swapped symlink, which is how Kubernetes
# updates a mounted Secret, leads to another inode.
_Version = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _CachedKey:
    version: _Version
    secret: str

    def __repr__(self) -> str:
        return "_CachedKey(***)"


class KeyDirectory:
    """Reads keys by appId and reads a file again once it has changed.

    The files are tiny and lie on a local or memory file system (a mounted Secret), so they are read
    on the event loop: a `stat` there costs less than a hop to a thread.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache: dict[str, _CachedKey] = {}

    def names(self) -> list[str]:
        """Name the files that may be keys; hidden ones are none, such as those of a Kubernetes mount.

        Raises:
            OSError: The directory cannot be read.
        """
        return sorted(path.name for path in self._directory.iterdir() if not path.name.startswith("."))

    def read(self, app_id: str, *, fresh: bool = False) -> str:
        """Give the secret key of an account.

        Args:
            app_id: A valid appId: its character set keeps the file inside the directory.
            fresh: Read the file even when it looks unchanged, as after a 401.

        Raises:
            JobError: UNKNOWN_APP when there is no usable key.
        """
        path = self._directory / app_id
        try:
            version = _version(path)
            cached = self._cache.get(app_id)
            if cached is None or cached.version != version or fresh:
                cached = self._cache[app_id] = _CachedKey(version, _read_secret(path))
        except OSError as exc:
            self._cache.pop(app_id, None)
            raise _unknown(app_id, _reason(exc)) from exc
        except ValueError as exc:
            self._cache.pop(app_id, None)
            raise _unknown(app_id, str(exc)) from None
        return cached.secret


def _version(path: Path) -> _Version:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_KEY_BYTES + 1)
    if len(raw) > MAX_KEY_BYTES:
        raise ValueError(f"the key file is larger than {MAX_KEY_BYTES} bytes")
    try:
        secret = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # The original error shows the bytes, that is the key.
        raise ValueError("the key file is not UTF-8 text") from None
    if not secret:
        raise ValueError("the key file is empty")
    return secret


def _reason(exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return "no key file for this account"
    return f"the key file cannot be read: {os.strerror(exc.errno or 0)}"


def _unknown(app_id: str, reason: str) -> JobError:
    return JobError(ErrorCode.UNKNOWN_APP, f"{reason} ({app_id})")
