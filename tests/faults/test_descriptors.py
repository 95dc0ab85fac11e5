"""A worker that has no more file descriptors waits for some; its jobs are not to blame."""

import asyncio
import json
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from devkit.run.worker_process import WorkerProcess
from tests.installation import Site, bill

JOBS = 4
CLIENTS = 1100
MIB = 1024**2
_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def open_in(worker: WorkerProcess) -> int:
    """How many descriptors it has open."""
    return len(list(Path(f"/proc/{worker.pid}/fd").iterdir()))


def limit(worker: WorkerProcess, number: int) -> None:
    """Let it have no descriptor from this number on; those that it has above stay open."""
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (number, _HARD))


@pytest.mark.parametrize("simulator_options", [64 * 1024, 8 * MIB], indirect=True, ids=["small", "large"])
@pytest.mark.parametrize("left", [0, 1, 2])
async def test_a_worker_out_of_descriptors(site: Site, left: int) -> None:
    """The key, the connection, its duplicate or the file cannot be opened: intake pauses, and says why."""
    with site.worker(CONCURRENCY=str(JOBS), CCFS__PAUSE_AFTER="1") as worker:
        await worker.readiness()
        had = open_in(worker)
        limit(worker, had + left)
        await site.publish(*(bill(number) for number in range(JOBS)))
        await worker.logged("descriptors.out")
        # A probe takes one, too, and kept connections to CC-FS may hold some; work needs eight.
        limit(worker, had + left + 6)
        checks = await worker.readiness(503)
        limit(worker, _HARD)
        await site.settled()
        await worker.readiness()
        errors = [line for line in worker.lines() if line["level"] == "error"]

    outcomes = [json.loads(message.body) for (message,) in site.messages.values()]
    assert [(outcome["status"], outcome["attempts"]) for outcome in outcomes] == [("completed", 1)] * JOBS
    assert "out of file descriptors" in checks["intake"]["detail"]
    assert not errors
    assert not site.leftovers()


async def test_idle_clients_keep_no_job_from_its_descriptors(site: Site) -> None:
    with many_descriptors(), site.worker() as worker:
        port = (await worker.logged("worker.started"))["http_port"]
        await worker.readiness()
        limit(worker, 400)
        async with AsyncExitStack() as stack:
            for _ in range(CLIENTS):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
            await site.publish(*(bill(number) for number in range(JOBS)))
            await site.settled()
            answered, _ = await worker.get("/livez")
            held = open_in(worker)
        events = {line["event"] for line in worker.lines()}

    assert answered == 200
    assert "descriptors.out" not in events
    assert held < 200
    assert all(json.loads(message.body)["status"] == "completed" for (message,) in site.messages.values())


async def test_a_worker_raises_its_soft_limit(site: Site) -> None:
    with many_descriptors(128), site.worker() as worker:
        await worker.readiness()

        assert resource.prlimit(worker.pid, resource.RLIMIT_NOFILE) == (_HARD, _HARD)


@contextmanager
def many_descriptors(soft: int = _HARD) -> Iterator[None]:
    """Set the limit of this process and of what it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, _HARD))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
