"""Files on their way to the storage."""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath

from schemas import ErrorCode
from worker.core.outcome import StoredFile
from worker.core.paths import part_name
from worker.core.ports import Chunk
from worker.core.progress import Progress
from worker.errors import JobError
from worker.storage.content import Content, read_content, write_all
from worker.storage.errors import storage_errors
from worker.storage.sweep import Sweep
from worker.storage.threads import PATIENCE, Call, Strand, Threads, outlast, run, run_stoppable
from worker.storage.tree import RootRules, Space, Tree, identity_of
from worker.storage.zip_file import CorruptArchiveError

_SMALL = 1024 * 1024
"""Files below this many bytes are stored in one hop to a thread."""


@dataclass(slots=True)
class _Writing:
    """A temporary file under way.

    Attributes:
        part: Its path, relative to the root.
        strand: Runs what works on it.
        content: What is known of its bytes.
        descriptor: The open file; -1 while it is not open.
    """

    part: PurePosixPath
    strand: Strand
    content: Content = field(default_factory=Content)
    descriptor: int = -1

    def take_in(self, chunk: Chunk) -> None:
        """Append a chunk."""
        write_all(self.descriptor, chunk)
        self.content.take(chunk)

    def close(self) -> None:
        """Close the file, once."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


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
        rules: RootRules = RootRules(),  # noqa: B008 - immutable
    ) -> None:
        self._root = root
        self._tree = Tree(root, rules)
        self._executor = executor
        self._lookout = lookout or executor
        self._tidying: set[asyncio.Task[None]] = set()
        self._max_file_bytes = max_file_bytes
        self._min_free_bytes = min_free_bytes
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
        chunks: AsyncIterator[Chunk],
        *,
        announced_bytes: int | None,
        progress: Progress | None = None,
    ) -> StoredFile:
        """Write a stream to that relative path; on any failure nothing of it remains.

        Args:
            path: Where to.
            chunks: The stream, in steps that are worth a thread's while: a hop to one costs about as much as
                writing 64 KiB. Each chunk is done with before the next is asked for.
            announced_bytes: How long it will be, if that is known.
            progress: Records what came in and how long the sync took, if anybody reads it.

        Raises:
            JobError: TOO_LARGE, CORRUPT_ARCHIVE, STORAGE_FULL, STORAGE_ERROR, or whatever the stream raises.
        """
        progress = progress or Progress()
        self._refuse_over_limit(announced_bytes or 0)
        part = path.with_name(part_name(path.name, f"{self._unique}x{next(self._attempts)}"))
        begun = [await anext(chunks, b"")]
        if announced_bytes is None and len(begun[0]) < _SMALL:
            # Whether that is all of it only the next chunk tells, which makes it invalid.
            begun = [bytes(begun[0]), await anext(chunks, b"")]
        size = sum(map(len, begun))
        with storage_errors(path), _corruption():
            if size < _SMALL and (size == announced_bytes or not begun[-1]):
                content = await self._store_small(path, part, begun[0], progress)
            else:
                writing = _Writing(part, Strand(self._executor))
                try:
                    await self._begin(writing, announced_bytes or 0)
                    for chunk in begun:
                        await self._take_in(writing, chunk, progress)
                    async for chunk in chunks:
                        await self._take_in(writing, chunk, progress)
                    progress.sync_seconds = await self._finish(writing, path.name)
                except BaseException:
                    await self._discard(writing)
                    raise
                content = writing.content
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
        return self._executor.left_behind

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

    async def _store_small(
        self, path: PurePosixPath, part: PurePosixPath, whole: Chunk, progress: Progress
    ) -> Content:
        """Store a small file in one hop to a thread: hops would cost more than the work."""
        self._refuse_over_limit(len(whole))
        progress.received_bytes = len(whole)

        def put(stop: threading.Event) -> tuple[Content, float]:
            content = read_content(whole)
            admit = partial(self._refuse_without_space, size=content.size)
            return content, self._tree.put(path, part.name, whole, admit, stop)

        content, progress.sync_seconds = await run_stoppable(self._executor, put)
        return content

    async def _begin(self, writing: _Writing, announced: int) -> None:
        def create() -> None:
            self._refuse_without_space(self._tree.free_bytes(), announced)
            # It is found there even if nobody waits for this call any more.
            writing.descriptor = self._tree.create(writing.part)

        await writing.strand.run(create)

    async def _take_in(self, writing: _Writing, chunk: Chunk, progress: Progress) -> None:
        """Write, hash and check a chunk on a thread, while the next one comes in from the network."""
        progress.received_bytes = writing.content.size + len(chunk)
        self._refuse_over_limit(progress.received_bytes)
        await writing.strand.run(partial(writing.take_in, chunk))

    async def _finish(self, writing: _Writing, name: str) -> float:
        """Make a file durable and give it its name; returns the seconds of its fsync."""

        def finish(stop: threading.Event) -> float:
            began = time.monotonic()
            os.fsync(writing.descriptor)
            seconds, identity = time.monotonic() - began, identity_of(os.fstat(writing.descriptor))
            # Some file systems tell only now that a quota is used up (close(2)).
            writing.close()
            if not writing.content.is_proven:
                writing.content.judged = self._tree.check(writing.part, stop)
            self._tree.rename(writing.part, name, identity, stop)
            return seconds

        return await writing.strand.run_stoppable(finish)

    def _refuse_without_space(self, free: int, size: int) -> None:
        if free - size < self._min_free_bytes:
            raise JobError(
                ErrorCode.STORAGE_FULL,
                f"{free} bytes are free on the storage; this file needs {size} "
                f"and {self._min_free_bytes} stay free",
            )

    async def _discard(self, writing: _Writing) -> None:
        """Let go of a file that is not wanted; goes on by itself where the volume takes its time."""
        tidying = asyncio.create_task(self._tidy(writing))
        try:
            await outlast(tidying, PATIENCE)
        finally:
            if not tidying.done():
                self._tidying.add(tidying)
                tidying.add_done_callback(self._tidying.discard)

    async def _tidy(self, writing: _Writing) -> None:
        await writing.strand.idle()
        # Why the file is not wanted matters more than why it stays; the sweep comes by later.
        for step in (writing.close, partial(self._tree.remove, writing.part)):
            with suppress(OSError, JobError):
                await run(self._executor, step)


@contextmanager
def _corruption() -> Iterator[None]:
    try:
        yield
    except CorruptArchiveError as exc:
        raise JobError(ErrorCode.CORRUPT_ARCHIVE, str(exc)) from exc
