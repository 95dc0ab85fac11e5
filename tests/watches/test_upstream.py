"""CC-FS silent, or asking to stay away: intake pauses, and comes back by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from schemas import ErrorCode
from worker.core.gate import Gate
from worker.errors import JobError
from worker.watches import upstream
from worker.watches.upstream import FLOW_CONTROL, UPSTREAM, UpstreamWatch

SILENT = JobError(ErrorCode.UPSTREAM_UNREACHABLE, "nobody there")
LATE = JobError(ErrorCode.TIMEOUT, "no answer in time")
CUT = JobError(ErrorCode.TRUNCATED, "cut", http_status=200)


class Upstream:
    """A CC-FS that does not answer the first probes."""

    def __init__(self, silent_probes: int) -> None:
        self.left = silent_probes
        self.probes = 0

    async def probe(self) -> None:
        self.probes += 1
        if self.left:
            self.left -= 1
            raise JobError(ErrorCode.UPSTREAM_UNREACHABLE, f"still nobody, {self.left} to go")


Watch = Callable[[Upstream], Awaitable[UpstreamWatch]]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def watch(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watch]:
    monkeypatch.setattr(upstream, "_PROBE_WAIT", 0.0001)
    tasks = []

    async def running(peer: Upstream) -> UpstreamWatch:
        made = UpstreamWatch(peer.probe, gate, pause_after=3, longest_pause=60)
        tasks.append(asyncio.create_task(made.run()))
        return made

    yield running
    for task in tasks:
        task.cancel()


async def test_failures_in_a_row_pause_intake_until_a_probe_succeeds(watch: Watch, gate: Gate) -> None:
    peer = Upstream(silent_probes=4)
    watching = await watch(peer)

    assert [await watching.failed(error) for error in (SILENT, LATE, SILENT)] == [False, False, True]
    assert gate.reasons == {UPSTREAM: "nobody there"}

    await gate.wait_open()
    assert peer.probes == 5
    assert not await watching.failed(SILENT)


async def test_any_answer_or_success_ends_the_row(watch: Watch, gate: Gate) -> None:
    watching = await watch(Upstream(silent_probes=0))

    for between in (lambda: watching.failed(CUT), None):
        await watching.failed(SILENT)
        await watching.failed(SILENT)
        if between is None:
            watching.succeeded()
        else:
            assert not await between()
    assert not await watching.failed(SILENT)
    assert gate.is_open


SLOW = JobError(ErrorCode.TIMEOUT, "the job took longer than 2 s", http_status=200)
UNASKED = [
    JobError(ErrorCode.TIMEOUT, "the job took longer than 2 s", asked=False),
    JobError(ErrorCode.UNKNOWN_APP, "no key"),
    JobError(ErrorCode.STORAGE_ERROR, "EIO"),
]


async def test_a_deadline_after_an_answer_is_no_silence(watch: Watch, gate: Gate) -> None:
    watching = await watch(Upstream(silent_probes=0))

    assert [await watching.failed(SLOW) for _ in range(10)] == [False] * 10
    assert gate.is_open


@pytest.mark.parametrize("between", UNASKED, ids=lambda error: error.code)
async def test_a_failure_before_ccfs_was_asked_says_nothing_about_it(watch: Watch, between: JobError) -> None:
    """It neither ends the row of failures without an answer nor adds to it."""
    watching = await watch(Upstream(silent_probes=0))

    assert [await watching.failed(between) for _ in range(10)] == [False] * 10
    errors = [SILENT, between, SILENT, between]
    assert [await watching.failed(error) for error in errors] == [False] * 4
    assert await watching.failed(SILENT)


@pytest.mark.parametrize(("asked", "obeyed"), [(7.0, 7.0), (3600.0, 60.0)])
async def test_a_retry_after_keeps_everybody_away(
    watch: Watch, gate: Gate, asked: float, obeyed: float
) -> None:
    """As long as it asks, but never longer than the longest wait of a job."""
    watching = await watch(Upstream(silent_probes=0))
    loop = asyncio.get_running_loop()
    before = loop.time()

    busy = JobError(ErrorCode.FLOW_CONTROL, "busy", http_status=429, retry_after=asked)
    assert not await watching.failed(busy)

    assert list(gate.reasons) == [FLOW_CONTROL]
    assert watching.obeys_until is not None
    assert before + obeyed <= watching.obeys_until <= loop.time() + obeyed


async def test_the_pause_ends(watch: Watch, gate: Gate) -> None:
    watching = await watch(Upstream(silent_probes=0))

    await watching.failed(JobError(ErrorCode.FLOW_CONTROL, "busy", http_status=429, retry_after=0.001))

    await gate.wait_open()


async def test_an_accounts_own_limit_keeps_nobody_else_away(watch: Watch, gate: Gate) -> None:
    watching = await watch(Upstream(silent_probes=0))
    busy = JobError(ErrorCode.FLOW_CONTROL, "busy", http_status=200, result_code="0300008", retry_after=60)

    await watching.failed(busy)

    assert gate.is_open
