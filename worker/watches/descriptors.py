"""File descriptors: how many there may be, how many are needed, and what happens when there are no more.

Measured: an idle worker has 16 open. A large download takes three (its connection, a duplicate of it for the
thread that receives, its file) and now and then a fourth (its directory).
"""

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import structlog

from schemas import ErrorCode
from worker.core.gate import Gate
from worker.errors import JobError

DESCRIPTORS = "descriptors"
"""The reason under which intake pauses."""

_OUT = frozenset({errno.EMFILE, errno.ENFILE})
_OF_THE_WORKER = 192
"""Its own, those of the clients of its HTTP server, and of those that wait to be."""
_OF_A_DOWNLOAD = 4
_ROOM = 8
"""How many have to be free for work to go on."""
_CHECK_INTERVAL = 1.0

log = structlog.stdlib.get_logger(__name__)


def raise_limit() -> None:
    """Allow this process as many as it may allow itself: the soft limit is 1,024 by tradition only.

    select(2) cannot wait for one above that; event loop and threads here use epoll(7) and poll(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        # Where the system refuses it, the limit stays as it is.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit_problems(concurrency: int) -> Iterator[str]:
    """Say, as a line about the setting, when the limit is too low for `concurrency` downloads."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OF_THE_WORKER + _OF_A_DOWNLOAD * concurrency
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield (
            f"WORKER_CONCURRENCY: {concurrency} downloads need {needed} file descriptors and this process "
            f"may have {hard}: {_advice(hard)}raise the limit (ulimit -n)"
        )


def _advice(hard: int) -> str:
    fitting = (hard - _OF_THE_WORKER) // _OF_A_DOWNLOAD
    return f"lower it to {fitting}, or " if fitting > 0 else ""


class DescriptorWatch:
    """Pauses intake while the process, or the machine, is out of file descriptors.

    That is no fault of a job. Each library reports it as an error of its own kind.
    Implements `worker.core.ports.Watch`.

    Args:
        gate: Is closed meanwhile.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._is_out = asyncio.Event()

    async def run(self) -> None:
        """Once there are none, look every second until there are some."""
        while True:
            await self._is_out.wait()
            await asyncio.sleep(_CHECK_INTERVAL)
            if _has_room():
                self._is_out.clear()
                self._gate.open(DESCRIPTORS)
                log.info("descriptors.free")

    async def failed(self, error: JobError) -> bool:
        """Say whether a download failed because none were left; close the gate if so."""
        # A name lookup says only that the name is not known.
        is_lookup = error.code is ErrorCode.UPSTREAM_UNREACHABLE
        if not (_ran_out(error) or (is_lookup and not _has_room())):
            return False
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        detail = f"out of file descriptors ({soft}): raise the limit (ulimit -n), or lower WORKER_CONCURRENCY"
        if not self._is_out.is_set():
            log.warning("descriptors.out", limit=soft)
        self._gate.close(DESCRIPTORS, detail)
        self._is_out.set()
        return True

    def succeeded(self) -> None:
        """A file stored says nothing about the next one: the looks decide."""


def _ran_out(error: BaseException | None) -> bool:
    """Whether an error came of it: those of libraries, and ours, are raised from the system's."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OUT:
            return True
        error = error.__cause__ or error.__context__
    return False


def _has_room() -> bool:
    try:
        with ExitStack() as opened:
            for _ in range(_ROOM):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
