"""Files on their way to the storage."""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, cast

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from schemas import ErrorCode
from worker.core.outcome import StoredFile
from worker.core.paths import part_name
from worker.core.ports import Incoming, no_takeover
from worker.core.progress import Progress
from worker.errors import JobError
from worker.storage.content import Bytes, Content, read_content, write_all
from worker.storage.errors import storage_errors
from worker.storage.sweep import Sweep
from worker.storage.threads import PATIENCE, Call, Strand, Threads, outlast, run, run_stoppable
from worker.storage.tree import Identity, RootRules, Space, Tree, identity_of
from worker.storage.zip_file import CorruptArchiveError

BLOCK_BYTES = 1024 * 1024

_Fill = Callable[[Strand, int], Awaitable[Content]]
"""Writes a file by its descriptor, on that strand."""


@dataclass(slots=True)
class _Writing:
    """A temporary file under way.

    Attributes:
        part: Its path, relative to the root.
        strand: Runs what works on it.
        file: The open file; None before it is.
        step: The last step that aiofiles was asked for, which nobody can leave behind by its thread.
    """

    part: PurePosixPath
    strand: Strand
    file: AsyncFileIO | None = None
    step: asyncio.Task[None] | None = None

    async def do(self, step: Coroutine[Any, Any, None]) -> None:
        """Do a step; it goes on when we are cancelled."""
        self.step = asyncio.create_task(step)
        await asyncio.shield(self.step)

    @property
    def is_held(self) -> bool:
        """Whether a step still goes on."""
        return self.step is not None and not self.step.done()


class SharedStorage:
    """The storage root and the threads that touch it.

    On a volume that hangs, a task that is cancelled goes on without its call (`worker.storage.threads`). What
    the call works on is let go when it returns. No file gets its final name any more once the attempt at it
    was given up, unless the rename itself was what hung: that file is whole.

    Args:
        root: An existing directory; it may be a link, while below it none is followed.
        executor: Threads of our own; the loop's default ones also resolve names.
        lookout: A thread for `look` alone, so that no call of a job stands before it; `executor` without one.
        max_file_bytes: Larger files are refused.
        min_free_bytes: What stays free on the volume after a file of announced size.
        block_bytes: What the event loop receives is gathered to this size before it crosses to a thread: a
            hop costs about as much as writing 64 KiB. Large files of known size are received by threads.
        rules: What holds for the root.
    """

    def __init__(
        self,
        root: Path,
        executor: Threads,
        *,
        lookout: Threads | None = None,
        max_file_bytes: int,
        min_free_bytes: int,
        block_bytes: int = BLOCK_BYTES,
        rules: RootRules = RootRules(),  # noqa: B008 - immutable
    ) -> None:
        self._root = root
        self._tree = Tree(root, rules)
        self._executor = executor
        self._lookout = lookout or executor
        self._tidying: dict[asyncio.Task[None], _Writing] = {}
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
        progress: Progress | None = None,
    ) -> StoredFile:
        """Write a stream to that relative path; on any failure nothing of it remains.

        Args:
            path: Where to.
            chunks: The stream.
            announced_bytes: How long it will be, if that is known.
            take_over: Gives a large stream in a way that takes less CPU; None when `chunks` is the only one.
            progress: Records what came in and how long the sync took, if anybody reads it.

        Raises:
            JobError: TOO_LARGE, CORRUPT_ARCHIVE, STORAGE_FULL, STORAGE_ERROR, or whatever the stream raises.
        """
        announced, progress = announced_bytes or 0, progress or Progress()
        self._refuse_over_limit(announced)
        part = path.with_name(part_name(path.name, f"{self._unique}x{next(self._attempts)}"))
        if announced >= BLOCK_BYTES and (incoming := await take_over()) is not None:
            fill = partial(self._drain, incoming, progress)
            content = await self._store_large(path, part, announced, fill, progress)
        else:
            content = await self._store_chunks(path, part, announced, chunks, progress)
        return StoredFile(
            path=str(path),
            size_bytes=content.size,
            sha256=content.sha256,
            reused=False,
            listing=content.listing,
        )

    async def free_bytes(self) -> int:
        """Bytes that unprivileged writers may still use on the root's volume.

        Raises:
            JobError: STORAGE_ERROR when the root is missing or cannot be read.
        """
        with storage_errors(self._root):
            return await run(self._executor, self._tree.free_bytes)

    def look(self) -> Call[Space]:
        """Begin a look at the volume, which gives what it has; for a call at a time."""
        return self._lookout.start(self._tree.look)

    @property
    def silence(self) -> float:
        """Seconds for which the call that has waited longest for the volume has waited."""
        return max(self._executor.silence, self._lookout.silence)

    @property
    def left_behind(self) -> int:
        """Threads that hold a call whose job was given up meanwhile."""
        return self._executor.left_behind + sum(writing.is_held for writing in self._tidying.values())

    def new_sweep(self, older_than: float) -> Sweep:
        """Give what removes temporary files that nobody has written to for `older_than` seconds."""
        return Sweep(self._tree, older_than)

    async def sweep_on(self, sweep: Sweep) -> bool:
        """Sweep a little further; gives whether there is more to do.

        Raises:
            JobError: STORAGE_ERROR when the root cannot be read.
        """
        with storage_errors(self._root):
            return await run(self._executor, sweep.step)

    def _refuse_over_limit(self, size: int) -> None:
        if size > self._max_file_bytes:
            raise JobError(
                ErrorCode.TOO_LARGE, f"the file has {size} bytes or more; the limit is {self._max_file_bytes}"
            )

    async def _store_chunks(
        self,
        path: PurePosixPath,
        part: PurePosixPath,
        announced: int,
        chunks: AsyncIterator[bytes],
        progress: Progress,
    ) -> Content:
        async with aclosing(_blocks(chunks, self._block_bytes)) as blocks:
            first: Sequence[bytes] = await anext(blocks, ())
            if _size(first) < self._block_bytes:
                return await self._store_at_once(path, part, first, progress)
            fill = partial(self._pour, _chain(first, blocks), progress)
            return await self._store_large(path, part, announced, fill, progress)

    async def _store_at_once(
        self, path: PurePosixPath, part: PurePosixPath, chunks: Sequence[bytes], progress: Progress
    ) -> Content:
        """Store a file of less than a block in one hop to a thread: hops would cost more than the work."""
        size = _size(chunks)
        self._refuse_over_limit(size)
        progress.received_bytes = size
        with storage_errors(path), _corruption():
            put = partial(self._put, path, part.name, chunks)
            content, seconds = await run_stoppable(self._executor, put)
        progress.sync_seconds = seconds
        return content

    def _put(
        self, path: PurePosixPath, part: str, chunks: Sequence[bytes], stop: threading.Event
    ) -> tuple[Content, float]:
        content = read_content(chunks)
        admit = partial(self._refuse_without_space, size=content.size)
        return content, self._tree.put(path, part, chunks, admit, stop)

    async def _store_large(
        self, path: PurePosixPath, part: PurePosixPath, announced: int, fill: _Fill, progress: Progress
    ) -> Content:
        self._refuse_without_space(await self.free_bytes(), announced)
        writing = _Writing(part, Strand(self._executor))
        try:
            with storage_errors(path), _corruption():
                content, identity = await self._write(writing, fill, progress)
                if not content.is_proven:
                    content.judged = await writing.strand.run_stoppable(partial(self._tree.check, part))
                await writing.strand.run(partial(self._tree.rename, part, path.name, identity))
        except BaseException:
            await self._discard(writing)
            raise
        return content

    def _refuse_without_space(self, free: int, size: int) -> None:
        if free - size < self._min_free_bytes:
            raise JobError(
                ErrorCode.STORAGE_FULL,
                f"{free} bytes are free on the storage; this file needs {size} "
                f"and {self._min_free_bytes} stay free",
            )

    async def _write(self, writing: _Writing, fill: _Fill, progress: Progress) -> tuple[Content, Identity]:
        await writing.do(self._open(writing))
        file = cast("AsyncFileIO", writing.file)
        content = await fill(writing.strand, file.fileno())
        seconds, identity = await writing.strand.run(partial(_sync, file.fileno()))
        progress.sync_seconds = seconds
        # Some file systems tell only now that a quota is used up (close(2)).
        await writing.do(file.close())
        return content, identity

    async def _open(self, writing: _Writing) -> None:
        # Unbuffered: what is written comes in blocks already.
        writing.file = await aiofiles.open(
            writing.part,
            "xb",
            0,
            opener=lambda path, flags: self._tree.create(PurePosixPath(path), flags),
            executor=self._executor,
        )

    async def _drain(
        self, incoming: Incoming, progress: Progress, strand: Strand, descriptor: int
    ) -> Content:
        """Receive, write, hash and check each block on one thread, in turns with the other downloads."""
        content = Content()

        def use(block: memoryview) -> None:
            _take_in(descriptor, content, (block,))
            progress.received_bytes = content.size

        while not incoming.is_whole:
            async with incoming.turn():
                await strand.run_stoppable(partial(incoming.receive, use))
        return content

    async def _pour(
        self, blocks: AsyncIterator[Sequence[bytes]], progress: Progress, strand: Strand, descriptor: int
    ) -> Content:
        """Write, hash and check each block on a thread while the next one comes in from the network."""
        content = Content()
        received = 0
        written: Call[None] | None = None
        async for block in blocks:
            received += _size(block)
            self._refuse_over_limit(received)
            progress.received_bytes = received
            if written is not None:
                await written
            written = strand.start(partial(_take_in, descriptor, content, block))
        if written is not None:
            await written
        return content

    async def _discard(self, writing: _Writing) -> None:
        """Let go of a file that is not wanted; goes on by itself where the volume takes its time."""
        tidying = asyncio.create_task(self._tidy(writing))
        try:
            await outlast(tidying, PATIENCE)
        finally:
            if not tidying.done():
                self._tidying[tidying] = writing
                tidying.add_done_callback(self._tidying.pop)

    async def _tidy(self, writing: _Writing) -> None:
        await writing.strand.idle()
        # Why the file is not wanted matters more than why it stays; the sweep comes by later.
        with suppress(OSError, JobError):
            if writing.step is not None:
                await writing.step
        with suppress(OSError, JobError):
            if writing.file is not None:
                await writing.file.close()
        with suppress(OSError, JobError):
            await run(self._executor, partial(self._tree.remove, writing.part))


def _sync(descriptor: int) -> tuple[float, Identity]:
    """Make a file's bytes durable; gives the seconds that it took, and its identity."""
    began = time.monotonic()
    os.fsync(descriptor)
    return time.monotonic() - began, identity_of(os.fstat(descriptor))


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
