"""Puts files on the shared storage: whole, verified and durable under their final name, or not at all.

A file is written under a hidden temporary name beside its target, hashed on the way, flushed to disk,
checked as a zip and then renamed, which POSIX makes atomic (rename(2)); the directory is flushed last,
since only that makes the new name durable (fsync(2)).
"""

import asyncio
import errno
import hashlib
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from schemas import ErrorCode
from worker.archive import CorruptArchiveError, check_archive
from worker.context import PROGRESS
from worker.errors import JobError
from worker.outcome import StoredFile
from worker.paths import PARTS_GLOB, part_name

BLOCK_BYTES = 1024 * 1024
"""Chunks from the network are gathered to this size before they cross to a thread: a hop costs about
as much as writing 64 KiB."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_T = TypeVar("_T")


class Storage:
    """The storage root and the threads that touch it.

    Every blocking call runs on `executor`, and a call once begun is waited for even when its job is
    cancelled: a descriptor closed under a running write could already belong to another file.

    Args:
        root: An existing directory.
        executor: Threads of our own; the loop's default ones also resolve names.
        max_file_bytes: Larger files are refused.
        min_free_bytes: What stays free on the volume after a file of announced size.
    """

    def __init__(
        self,
        root: Path,
        executor: Executor,
        *,
        max_file_bytes: int,
        min_free_bytes: int,
    ) -> None:
        self._root = root
        self._executor = executor
        self._max_file_bytes = max_file_bytes
        self._min_free_bytes = min_free_bytes

    async def find(self, path: PurePosixPath) -> StoredFile | None:
        """Give the file of that relative path if it is there, whole and sound; None otherwise.

        Raises:
            JobError: STORAGE_ERROR when the storage cannot be read.
        """
        stop = threading.Event()
        return await self._run(partial(_inspect, self._root, path, stop), stop)

    async def store(
        self, path: PurePosixPath, chunks: AsyncIterator[bytes], *, announced_bytes: int | None
    ) -> StoredFile:
        """Write a stream to that relative path; on any failure nothing of it remains.

        Raises:
            JobError: TOO_LARGE, CORRUPT_ARCHIVE, STORAGE_FULL, STORAGE_ERROR, or whatever `chunks` raises.
        """
        self._refuse_over_limit(announced_bytes or 0)
        part = await self._run(partial(self._prepare, path, announced_bytes or 0))
        try:
            size, sha256 = await self._write(part, chunks)
            await self._check(part)
            await self._run(partial(_publish, part, self._root / path))
        except BaseException:
            await self._run(partial(part.unlink, missing_ok=True))
            raise
        return StoredFile(path=str(path), size_bytes=size, sha256=sha256, reused=False)

    async def free_bytes(self) -> int:
        """Bytes that unprivileged writers may still use on the root's volume.

        Raises:
            JobError: STORAGE_ERROR when the root is missing or cannot be read.
        """
        return await self._run(partial(_free_bytes, self._root))

    async def sweep(self, older_than: float) -> int:
        """Remove temporary files that nobody has written to for `older_than` seconds; gives their number.

        Raises:
            JobError: STORAGE_ERROR when the storage cannot be read.
        """
        return await self._run(partial(_sweep, self._root, time.time() - older_than))

    def _prepare(self, path: PurePosixPath, announced_bytes: int) -> Path:
        free = _free_bytes(self._root)
        if free - announced_bytes < self._min_free_bytes:
            raise JobError(
                ErrorCode.STORAGE_FULL,
                f"{free} bytes are free on the storage; this file needs {announced_bytes} "
                f"and {self._min_free_bytes} stay free",
            )
        directory = _make_directory(self._root, path.parent)
        return directory / part_name(path.name, uuid.uuid4().hex)

    async def _write(self, part: Path, chunks: AsyncIterator[bytes]) -> tuple[int, str]:
        with _storage_errors():
            async with self._created(part) as file:
                size, sha256 = await self._pour(file, chunks)
                await _uninterrupted(file.flush())
                began = time.monotonic()
                await self._run(partial(os.fsync, file.fileno()))
                PROGRESS.get().sync_seconds = time.monotonic() - began
        return size, sha256

    @asynccontextmanager
    async def _created(self, part: Path) -> AsyncIterator[AsyncBufferedIOBase]:
        opening = asyncio.ensure_future(_awaited(aiofiles.open(part, "xb", executor=self._executor)))
        try:
            yield await _uninterrupted(opening)
        finally:
            if opening.exception() is None:
                await _uninterrupted(opening.result().close())

    async def _pour(self, file: AsyncBufferedIOBase, chunks: AsyncIterator[bytes]) -> tuple[int, str]:
        """Write and hash each block while the next one comes in from the network."""
        digest = hashlib.sha256()
        progress = PROGRESS.get()
        size = 0
        writing: asyncio.Future[tuple[int, None]] | None = None
        try:
            async for block in _blocks(chunks):
                size += len(block)
                self._refuse_over_limit(size)
                progress.received_bytes = size
                if writing is not None:
                    await asyncio.shield(writing)
                writing = asyncio.gather(file.write(block), self._run(partial(digest.update, block)))
            if writing is not None:
                await asyncio.shield(writing)
        finally:
            if writing is not None:
                await _outlast(writing)
        return size, digest.hexdigest()

    def _refuse_over_limit(self, size: int) -> None:
        if size > self._max_file_bytes:
            raise JobError(
                ErrorCode.TOO_LARGE, f"the file has {size} bytes or more; the limit is {self._max_file_bytes}"
            )

    async def _check(self, part: Path) -> None:
        stop = threading.Event()
        try:
            await self._run(partial(check_archive, part, stop), stop)
        except CorruptArchiveError as exc:
            raise JobError(ErrorCode.CORRUPT_ARCHIVE, str(exc)) from exc

    async def _run(self, call: Callable[[], _T], stop: threading.Event | None = None) -> _T:
        future = asyncio.get_running_loop().run_in_executor(self._executor, call)
        with _storage_errors():
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if stop is not None:
                    stop.set()
                await _outlast(future)
                raise


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    async for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(gathered)
            gathered.clear()
            size = 0
    if gathered:
        yield b"".join(gathered)


async def _awaited(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


async def _uninterrupted(awaitable: Awaitable[_T]) -> _T:
    """Await to the end even when cancelled in between; the cancellation comes after it."""
    future = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _outlast(future)
        raise


async def _outlast(future: asyncio.Future[_T]) -> None:
    """Wait until a future is done, whatever its end and however often we are cancelled meanwhile."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        code = ErrorCode.STORAGE_FULL if exc.errno in _FULL else ErrorCode.STORAGE_ERROR
        raise JobError(code, f"storage: {exc.strerror or exc}") from exc


def _free_bytes(root: Path) -> int:
    volume = os.statvfs(root)
    return volume.f_bavail * volume.f_frsize


def _make_directory(root: Path, relative: PurePosixPath) -> Path:
    """Make a directory under an existing root; each new level is durable before anything lies in it."""
    directory = root
    for name in relative.parts:
        parent, directory = directory, directory / name
        with suppress(FileExistsError):
            directory.mkdir()
            _sync_directory(parent)
    if not directory.resolve().is_relative_to(root.resolve()):
        raise JobError(
            ErrorCode.STORAGE_ERROR, f"storage: {relative} leads out of the storage root by a link"
        )
    return directory


def _publish(part: Path, target: Path) -> None:
    part.replace(target)
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inspect(root: Path, path: PurePosixPath, stop: threading.Event) -> StoredFile | None:
    target = root / path
    try:
        with target.open("rb") as file:
            check_archive(target, stop)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            # Whoever wrote it may have died before this: the outcome vouches for a durable file.
            os.fsync(file.fileno())
    except (FileNotFoundError, CorruptArchiveError):
        return None
    _sync_directory(target.parent)
    return StoredFile(path=str(path), size_bytes=size, sha256=sha256, reused=True)


def _sweep(root: Path, written_before: float) -> int:
    removed = 0
    for part in root.glob(PARTS_GLOB):
        # Another pod's sweep may be quicker.
        with suppress(FileNotFoundError):
            if part.stat().st_mtime < written_before:
                part.unlink()
                removed += 1
    return removed
