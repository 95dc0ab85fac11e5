"""The storage as jobs see it: find a file, store one, look at the volume, sweep."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from worker.core.outcome import StoredFile
from worker.core.paths import part_name
from worker.core.ports import Chunk
from worker.core.progress import Progress
from worker.storage.errors import storage_errors
from worker.storage.part import Limits, Part
from worker.storage.sweep import Sweep
from worker.storage.threads import PATIENCE, Call, Threads, outlast
from worker.storage.tree import Look, RootRules, Tree

_SMALL = 1024 * 1024
"""Files below this many bytes are stored in one hop to a thread."""


class SharedStorage:
    """The storage root and the threads that touch it.

    On a volume that hangs, a cancelled task leaves its call behind (`worker.storage.threads`). What the call
    works on is released when it returns. A file whose attempt was given up gets no final name, unless it was
    the rename that hung: that file is whole.

    Args:
        root: An existing directory; it may be a link, while below it none is followed.
        executor: Threads of our own; the loop's default ones also resolve names.
        lookout: A thread for `look` alone, which then waits behind no call of a job; None takes `executor`.
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
        self._limits = Limits(max_file_bytes, min_free_bytes)
        # Temporary names need not be secret: a file is made only where none is, and no link is followed.
        self._unique = uuid.uuid4().hex
        self._attempts = count(1)

    async def find(self, path: PurePosixPath) -> StoredFile | None:
        """Return the file of that relative path if it is there, whole and sound; None otherwise.

        Raises:
            JobError: STORAGE_ERROR when the storage cannot be read.
        """
        with storage_errors(path):
            return await self._executor.start_stoppable(partial(self._tree.inspect, path))

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
            chunks: The stream, in large chunks: a hop to a thread costs about as much as writing 64 KiB. No
                chunk is used after the next one was asked for.
            announced_bytes: How long it will be, if that is known.
            progress: Records what came in and how long the sync took, if anybody reads it.

        Raises:
            JobError: TOO_LARGE, CORRUPT_ARCHIVE, STORAGE_FULL, STORAGE_ERROR, or whatever the stream raises.
        """
        progress = progress or Progress()
        self._limits.check_size(announced_bytes or 0)
        name = part_name(path.name, f"{self._unique}x{next(self._attempts)}")
        part = Part(self._tree, self._limits, path, name)
        begun = [await anext(chunks, b"")]
        if announced_bytes is None and len(begun[0]) < _SMALL:
            # Only the next chunk shows whether this was all, and to ask for it makes this one invalid.
            begun = [bytes(begun[0]), await anext(chunks, b"")]
        size = sum(map(len, begun))
        with storage_errors(path):
            if size < _SMALL and (size == announced_bytes or not begun[-1]):
                self._limits.check_size(size)
                progress.received_bytes = size
                # One hop to a thread: several would cost more than the work.
                progress.sync_seconds = await self._executor.start_stoppable(partial(part.store, begun[0]))
            else:
                await self._store_large(part, announced_bytes or 0, begun, chunks, progress)
        return part.content.stored(path, reused=False)

    def look(self, *, write: bool = False) -> Call[Look]:
        """Begin a look at the volume. Only one may be under way. Raises as `Tree.look`."""
        return self._lookout.start(partial(self._tree.look, write=write))

    @property
    def silence(self) -> float:
        """Seconds that the longest-waiting call has waited for the volume."""
        return max(self._executor.silence, self._lookout.silence)

    @property
    def hung_threads(self) -> int:
        """Threads that hold a call whose job was given up meanwhile."""
        return self._executor.hung

    def new_sweep(self, older_than: float) -> Sweep:
        """Make a sweep of temporary files that nobody has written to for `older_than` seconds."""
        return Sweep(self._tree, older_than)

    async def sweep_on(self, sweep: Sweep) -> bool:
        """Sweep a little further; returns whether there is more to do.

        Raises:
            JobError: STORAGE_ERROR when the root cannot be read.
        """
        with storage_errors(self._root):
            return await self._executor.start(sweep.step)

    async def _store_large(
        self, part: Part, announced: int, begun: list[Chunk], chunks: AsyncIterator[Chunk], progress: Progress
    ) -> None:
        """Write, hash and check each chunk on a thread while the next one comes in from the network."""
        # One at a time: until a call has returned, nothing else may touch the file.
        call: Call[Any] = self._executor.start(partial(part.create, announced))

        async def take_in(chunk: Chunk) -> None:
            nonlocal call
            progress.received_bytes = part.content.size + len(chunk)
            self._limits.check_size(progress.received_bytes)
            call = self._executor.start(partial(part.take_in, chunk))
            await call

        try:
            await call
            for chunk in begun:
                await take_in(chunk)
            async for chunk in chunks:
                await take_in(chunk)
            call = self._executor.start_stoppable(part.finish)
            progress.sync_seconds = await call
        except BaseException:
            await self._discard(part, call)
            raise

    async def _discard(self, part: Part, last: Call[Any]) -> None:
        """Remove a file that is not wanted. On a slow volume that goes on in the background."""

        async def tidy() -> None:
            await last.returned()
            await self._executor.start(part.discard)

        tidying = asyncio.create_task(tidy())
        # The event loop alone would keep only a weak reference to it.
        self._tidying.add(tidying)
        tidying.add_done_callback(self._tidying.discard)
        await outlast(tidying, PATIENCE)
