"""Pauses intake while file descriptors run out, and says beforehand when the limit is too low.

Measured: an idle worker has 16 open. A large download takes two (its connection, its file), and now and
then a third and a fourth (its directory; a second address of CC-FS that is tried beside the first).
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
"""Its own, and those of clients of its HTTP server, accepted or waiting in the backlog."""
_OF_A_DOWNLOAD = 4
_ROOM = 8
"""Descriptors that must be free before work goes on."""
_CHECK_INTERVAL = 1.0

log = structlog.stdlib.get_logger(__name__)


def raise_limit() -> None:
    """Raise the soft limit of this process to its hard limit.

    The soft limit is usually 1,024, because select(2) cannot watch a descriptor above that. The event loop
    and the threads here use epoll(7) and poll(2), which can.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        # Where the system refuses it, the limit stays as it is.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit_problems(concurrency: int) -> Iterator[str]:
    """Give one line about the setting if the limit is too low for `concurrency` downloads."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OF_THE_WORKER + _OF_A_DOWNLOAD * concurrency
    if hard != resource.RLIM_INFINITY and hard < needed:
        fitting = (hard - _OF_THE_WORKER) // _OF_A_DOWNLOAD
        advice = f"lower it to {fitting}, or " if fitting > 0 else ""
        yield (
            f"WORKER_CONCURRENCY: {concurrency} downloads need {needed} file descriptors and this process "
            f"may have {hard}: {advice}raise the limit (ulimit -n)"
        )


class DescriptorWatch:
    """Pauses intake while the process, or the machine, is out of file descriptors.

    A job that meets this is not to blame. Each library reports it as an error of its own kind.
    Implements `worker.core.ports.Watch`.

    Args:
        gate: Closed meanwhile.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._is_out = asyncio.Event()

    async def run(self) -> None:
        """Once descriptors have run out, check every second until there is room."""
        while True:
            await self._is_out.wait()
            await asyncio.sleep(_CHECK_INTERVAL)
            if _has_room():
                self._is_out.clear()
                self._gate.open(DESCRIPTORS)
                log.info("descriptors.free")

    async def failed(self, error: JobError) -> bool:
        """Say whether a download failed because none were left; close the gate if so."""
        # A name lookup that is out of descriptors only says that the name is not known.
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
        """Do nothing: one stored file does not show that there is room for the next. `run` checks that."""


def _ran_out(error: BaseException | None) -> bool:
    """Whether the system's error is among the causes of this one."""
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
