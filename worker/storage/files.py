"""Files on their way to the storage."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from schemas import ErrorCode
from worker.archive import CorruptArchiveError
from worker.context import PROGRESS
from worker.errors import JobError
from worker.incoming import Incoming, no_takeover
from worker.outcome import StoredFile
from worker.paths import part_name
from worker.storage.content import Bytes, Content, read_content, write_all
from worker.storage.faults import storage_errors
from worker.storage.threads import Threads, outlast, run, run_stoppable, to_the_end
from worker.storage.tree import Identity, Tree, identity_of

BLOCK_BYTES = 1024 * 1024

_T = TypeVar("_T")
_Fill = Callable[[int], Awaitable[Content]]
"""Writes a file by its descriptor."""


class Storage:
    """The storage root and the threads that touch it.

    Args:
        root: An existing directory; it may be a link, while below it none is followed.
        executor: Threads of our own; the loop's default ones also resolve names.
        max_file_bytes: Larger files are refused.
        min_free_bytes: What stays free on the volume after a file of announced size.
        block_bytes: What the event loop receives is gathered to this size before it crosses to a thread: a
            hop costs about as much as writing 64 KiB. Large files of known size are received by threads.
    """

    def __init__(
        self,
        root: Path,
        executor: Threads,
        *,
        max_file_bytes: int,
        min_free_bytes: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._root = root
        self._tree = Tree(root)
        self._executor = executor
        self._max_file_bytes = max_file_bytes
        self._min_free_bytes = min_free_bytes
        self._block_bytes = block_bytes
        # Temporary names need not be secret: a file is made only where none is, and no link is followed.
        self._unique = uuid.uuid4().hex
        self._attempts = count(1)

    async def find(self, path: PurePosixPath) -> StoredFile | None:
        """Give the file of that relative path if it is there, whole and sound; None otherwise.

        Raises:
            JobError: STORAGE_ERROR when the storage cannot be read.
        """
        with storage_errors(path):
            return await run_stoppable(self._executor, partial(self._tree.inspect, path))

    async def store(
        self,
        path: PurePosixPath,
        chunks: AsyncIterator[bytes],
        *,
        announced_bytes: int | None,
        take_over: Callable[[], Awaitable[Incoming | None]] = no_takeover,
    ) -> StoredFile:
        """Write a stream to that relative path; on any failure nothing of it remains.

        Args:
            path: Where to.
            chunks: The stream.
            announced_bytes: How long it will be, if that is known.
            take_over: Gives a large stream in a way that takes less CPU; None when `chunks` is the only one.

        Raises:
            JobError: TOO_LARGE, CORRUPT_ARCHIVE, STORAGE_FULL, STORAGE_ERROR, or whatever the stream raises.
        """
        announced = announced_bytes or 0
        self._refuse_over_limit(announced)
        part = path.with_name(part_name(path.name, f"{self._unique}x{next(self._attempts)}"))
        if announced >= BLOCK_BYTES and (incoming := await take_over()) is not None:
            content = await self._store_large(path, part, announced, partial(self._drain, incoming))
        else:
            content = await self._store_chunks(path, part, announced, chunks)
        return StoredFile(path=str(path), size_bytes=content.size, sha256=content.sha256, reused=False)

    async def free_bytes(self) -> int:
        """Bytes that unprivileged writers may still use on the root's volume.

        Raises:
            JobError: STORAGE_ERROR when the root is missing or cannot be read.
        """
        with storage_errors(self._root):
            return await run(self._executor, self._tree.free_bytes)

    async def sweep(self, older_than: float) -> int:
        """Remove temporary files that nobody has written to for `older_than` seconds; gives their number.

        Raises:
            JobError: STORAGE_ERROR when the storage cannot be read.
        """
        with storage_errors(self._root):
            return await run_stoppable(self._executor, partial(self._tree.sweep, time.time() - older_than))

    def _refuse_over_limit(self, size: int) -> None:
        if size > self._max_file_bytes:
            raise JobError(
                ErrorCode.TOO_LARGE, f"the file has {size} bytes or more; the limit is {self._max_file_bytes}"
            )

    async def _store_chunks(
        self, path: PurePosixPath, part: PurePosixPath, announced: int, chunks: AsyncIterator[bytes]
    ) -> Content:
        async with aclosing(_blocks(chunks, self._block_bytes)) as blocks:
            first: Sequence[bytes] = await anext(blocks, ())
            if _size(first) < self._block_bytes:
                return await self._store_at_once(path, part, first)
            return await self._store_large(path, part, announced, partial(self._pour, _chain(first, blocks)))

    async def _store_at_once(
        self, path: PurePosixPath, part: PurePosixPath, chunks: Sequence[bytes]
    ) -> Content:
        """Store a file of less than a block in one hop to a thread: hops would cost more than the work."""
        size = _size(chunks)
        self._refuse_over_limit(size)
        PROGRESS.get().received_bytes = size
        with storage_errors(path), _corruption():
            content, seconds = await run(self._executor, partial(self._put, path, part.name, chunks))
        PROGRESS.get().sync_seconds = seconds
        return content

    def _put(self, path: PurePosixPath, part: str, chunks: Sequence[bytes]) -> tuple[Content, float]:
        content = read_content(chunks)
        admit = partial(self._refuse_without_space, size=content.size)
        return content, self._tree.put(path, part, chunks, admit)

    async def _store_large(
        self, path: PurePosixPath, part: PurePosixPath, announced: int, fill: _Fill
    ) -> Content:
        self._refuse_without_space(await self.free_bytes(), announced)
        try:
            with storage_errors(path), _corruption():
                content, identity = await self._write(part, fill)
                if not content.is_proven:
                    await run_stoppable(self._executor, partial(self._tree.check, part))
                await run(self._executor, partial(self._tree.rename, part, path.name, identity))
        except BaseException:
            await self._discard(part)
            raise
        return content

    def _refuse_without_space(self, free: int, size: int) -> None:
        if free - size < self._min_free_bytes:
            raise JobError(
                ErrorCode.STORAGE_FULL,
                f"{free} bytes are free on the storage; this file needs {size} "
                f"and {self._min_free_bytes} stay free",
            )

    async def _write(self, part: PurePosixPath, fill: _Fill) -> tuple[Content, Identity]:
        async with self._created(part) as file:
            content = await fill(file.fileno())
            began = time.monotonic()
            await run(self._executor, partial(os.fsync, file.fileno()))
            PROGRESS.get().sync_seconds = time.monotonic() - began
            return content, await run(self._executor, partial(identity_of, file.fileno()))

    @asynccontextmanager
    async def _created(self, part: PurePosixPath) -> AsyncIterator[AsyncFileIO]:
        # Unbuffered: what is written comes in blocks already.
        opening = asyncio.ensure_future(
            _awaited(aiofiles.open(part, "xb", 0, opener=self._opener, executor=self._executor))
        )
        try:
            yield await to_the_end(opening)
        except BaseException:
            if opening.exception() is None:
                # What went wrong first is what counts.
                with suppress(OSError):
                    await to_the_end(opening.result().close())
            raise
        # Some file systems tell only now that a quota is used up (close(2)).
        await to_the_end(opening.result().close())

    def _opener(self, path: str, flags: int) -> int:
        return self._tree.create(PurePosixPath(path), flags)

    async def _drain(self, incoming: Incoming, descriptor: int) -> Content:
        """Receive, write, hash and check each block on one thread, in turns with the other downloads."""
        content = Content()
        progress = PROGRESS.get()

        def use(block: memoryview) -> None:
            _take_in(descriptor, content, (block,))
            progress.received_bytes = content.size

        while not incoming.is_whole:
            async with incoming.turn():
                await run_stoppable(self._executor, partial(incoming.receive, use))
        return content

    async def _pour(self, blocks: AsyncIterator[Sequence[bytes]], descriptor: int) -> Content:
        """Write, hash and check each block on a thread while the next one comes in from the network."""
        content = Content()
        progress = PROGRESS.get()
        received = 0
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            async for block in blocks:
                received += _size(block)
                self._refuse_over_limit(received)
                progress.received_bytes = received
                if writing is not None:
                    await asyncio.shield(writing)
                writing = loop.run_in_executor(self._executor, _take_in, descriptor, content, block)
            if writing is not None:
                await asyncio.shield(writing)
        finally:
            if writing is not None:
                await outlast(writing)
        return content

    async def _discard(self, part: PurePosixPath) -> None:
        # Why the file is not wanted matters more than why it stays; the sweep comes by later.
        with suppress(OSError, JobError):
            await run(self._executor, partial(self._tree.remove, part))


def _take_in(descriptor: int, content: Content, block: Sequence[Bytes]) -> None:
    write_all(descriptor, block)
    content.take(block)


@contextmanager
def _corruption() -> Iterator[None]:
    try:
        yield
    except CorruptArchiveError as exc:
        raise JobError(ErrorCode.CORRUPT_ARCHIVE, str(exc)) from exc


def _size(chunks: Sequence[bytes]) -> int:
    return sum(map(len, chunks))


async def _chain(
    first: Sequence[bytes], others: AsyncIterator[Sequence[bytes]]
) -> AsyncIterator[Sequence[bytes]]:
    yield first
    async for block in others:
        yield block


async def _blocks(chunks: AsyncIterator[bytes], block_bytes: int) -> AsyncGenerator[Sequence[bytes], None]:
    gathered: list[bytes] = []
    size = 0
    async for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= block_bytes:
            yield gathered
            gathered, size = [], 0
    if gathered:
        yield gathered


async def _awaited(awaitable: Awaitable[_T]) -> _T:
    return await awaitable
