"""What the worker waits for, and how it shows that it waits in vain: the table of docs/reliability.md.

A row is data. `tests/faults/test_silence.py` makes each of them come true.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from tests.faults.proxy import Proxy
from tests.faults.silence_bench import OTHER, Bench
from tests.installation import APP
from worker.simulator import Fault
from worker.simulator.faults import Silence, Stall

DECLARE_OK, CONSUME_OK, CANCEL_OK, ACK, CLOSE_OK = (50, 11), (60, 21), (60, 31), (60, 80), (10, 51)
"""Methods of AMQP 0-9-1, each by its class and its number in it."""

Differences = Callable[[Bench], Mapping[str, str]]
"""Environment variables of the worker that differ from those of the bench."""


@dataclass(frozen=True, slots=True)
class Signs:
    """How a silence shows.

    Attributes:
        check: The check of `/readyz` that fails; empty when the worker stays ready.
        says: A part of that check's detail.
        metric: A sample, and how it compares: `name{label="value"} == 1`, without `ccfs_worker_`.
        log: The event that is logged; empty for none.
        lines: How often.
    """

    check: str = ""
    says: str = ""
    metric: str = ""
    log: str = ""
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """Something that the worker waits for.

    Attributes:
        awaited: What.
        bound: What bounds the wait: settings, or seconds that are fixed.
        signs: How it shows.
        others: What other jobs do meanwhile.
        silence: Begins the silence, and ends it on leaving.
        meet: Makes the worker meet it.
        settings: Those of the worker that differ.
        variables: Those that are no settings.
        from_start: Whether it is met while the worker starts.
        others_go_on: Whether another account's job is done meanwhile.
        whole: Whether only `make faults` runs it.
    """

    awaited: str
    bound: str
    signs: Signs
    others: str
    silence: Callable[[Bench], AbstractAsyncContextManager[None]]
    meet: Callable[[Bench], Awaitable[object]] = Bench.publish
    settings: Differences = lambda _: {}
    variables: Differences = lambda _: {}
    from_start: bool = False
    others_go_on: bool = False
    whole: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as the document has it."""
        signs = self.signs
        readiness = f"`{signs.check}`: {signs.says}" if signs.check else "ready"
        metric = f"`{signs.metric}`" if signs.metric else "none"
        log = f"`{signs.log}`" if signs.log else "nothing"
        return (self.awaited, self.bound, readiness, metric, log, self.others)


def hung(*calls: str) -> Callable[[Bench], AbstractAsyncContextManager[None]]:
    """Calls of the storage that do not return."""

    @asynccontextmanager
    async def silence(bench: Bench) -> AsyncIterator[None]:
        bench.disk.write_text("".join(f"{call} hang\n" for call in calls))
        try:
            yield
        finally:
            bench.disk.unlink()

    return silence


@asynccontextmanager
async def deaf(proxy: Proxy) -> AsyncIterator[None]:
    """Calls to the server get no answer, not even that of TCP."""
    proxy.cut()
    await proxy.deafen()
    try:
        yield
    finally:
        await proxy.hear()


@asynccontextmanager
async def silent(proxy: Proxy, *, cut: bool = False) -> AsyncIterator[None]:
    """The server takes calls and says nothing; with `cut`, open lines end before."""
    if cut:
        proxy.cut()
    proxy.silence()
    try:
        yield
    finally:
        proxy.cut()
        proxy.speak()


def answers_held(method: tuple[int, int]) -> Callable[[Bench], AbstractAsyncContextManager[None]]:
    """The broker says everything up to one of its answers, and nothing after that."""

    @asynccontextmanager
    async def silence(bench: Bench) -> AsyncIterator[None]:
        bench.amqp.hold_answer(method)
        try:
            yield
        finally:
            bench.amqp.speak()

    return silence


def unresolved(host: str) -> Callable[[Bench], AbstractAsyncContextManager[None]]:
    """Nobody says which address a host has."""

    @asynccontextmanager
    async def silence(bench: Bench) -> AsyncIterator[None]:
        bench.resolver.write_text(host)
        # What is open would need no lookup.
        bench.ccfs.cut()
        try:
            yield
        finally:
            bench.resolver.unlink()

    return silence


def answered_by(fault: Fault) -> Callable[[Bench], AbstractAsyncContextManager[None]]:
    """CC-FS answers one account's requests in that way."""

    @asynccontextmanager
    async def silence(bench: Bench) -> AsyncIterator[None]:
        bench.site.simulator.plan = lambda request: fault if request.app_id == APP else None
        try:
            yield
        finally:
            bench.site.simulator.plan = lambda _: None

    return silence


@asynccontextmanager
async def cancel_held(bench: Bench) -> AsyncIterator[None]:
    """Intake pauses, and the broker does not say that it gives no more jobs."""
    async with answers_held(CANCEL_OK)(bench), silent(bench.ccfs, cut=True):
        yield


@asynccontextmanager
async def status_unanswered(bench: Bench) -> AsyncIterator[None]:
    """The broker does not say how long its queues are, while several want to know."""
    async with answers_held(DECLARE_OK)(bench):
        asked = [asyncio.create_task(bench.running.get("/status")) for _ in range(5)]
        for answer in asked:
            status, _ = await answer
            assert status == 200
        yield


@asynccontextmanager
async def unread_log(bench: Bench) -> AsyncIterator[None]:
    """Nobody reads the log, and the pipe is full."""
    bench.log.stop()
    try:
        for _ in range(5):
            await bench.done(OTHER)
        yield
    finally:
        bench.log.go_on()


@asynccontextmanager
async def half_a_request(bench: Bench) -> AsyncIterator[None]:
    """Clients send the beginnings of requests: of the headers, and of the body."""
    headers = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    async with calls(bench, headers), calls(bench, headers + b"Content-Length: 100\r\n\r\nhalf"):
        yield


@asynccontextmanager
async def unread_answer(bench: Bench) -> AsyncIterator[None]:
    """A client asks for more than fits on the way to it, and reads none of it."""
    async with calls(bench, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000):
        yield


@asynccontextmanager
async def calls(bench: Bench, said: bytes) -> AsyncIterator[None]:
    """A client of the HTTP server that says something and then neither speaks nor reads."""
    started = await bench.running.logged("worker.started")
    with socket.socket() as client:
        # As little as the kernel allows: what fits into it is read, for the worker.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(("127.0.0.1", started["http_port"]))
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(client, said)
        yield


async def nothing(_: Bench) -> None:
    """The worker meets it by itself."""


NONE = Signs()
VOLUME_OUT = Signs(
    check="intake",
    says="the volume does not answer since",
    metric='intake_paused{reason="storage"} == 1',
    log="storage.hangs",
)
KEYS_OUT = Signs(
    check="intake",
    says="the key directory does not answer since",
    metric='intake_paused{reason="keys"} == 1',
    log="keys.hang",
)
CCFS_OUT = Signs(
    check="intake",
    says="no connection within WORKER_CCFS__CONNECT_TIMEOUT",
    metric='intake_paused{reason="upstream"} == 1',
    log="upstream.silent",
)
ATTEMPT_FAILED = Signs(metric='attempts_total{code="TIMEOUT"} > 0', log="job.retried")
NO_SESSION = Signs(
    check="broker",
    says="did not answer within",
    metric='check_ok{check="broker"} == 0',
    log="broker.unavailable",
)
CONFIRMS_LATE = Signs(
    check="results",
    says="has not confirmed a message since",
    metric='check_ok{check="results"} == 0',
    log="broker.confirms_late",
)

HANG_AFTER = "`WORKER_STORAGE__HANG_AFTER`"
CCFS_CONNECT, CCFS_IDLE = "`WORKER_CCFS__CONNECT_TIMEOUT`", "`WORKER_CCFS__IDLE_TIMEOUT`"
AMQP_CONNECT = "`WORKER_AMQP__CONNECT_TIMEOUT`"
PAUSE, PROBE = "intake pauses", "intake pauses; one probe at a time"
NEXT_SESSION = "the next session is tried"
GO_ON = "go on"


def one_account(awaited: str, fault: Fault, *, whole: bool = False) -> Row:
    """CC-FS falls silent for one account; intake does not pause."""
    return Row(
        awaited,
        CCFS_IDLE,
        ATTEMPT_FAILED,
        GO_ON,
        answered_by(fault),
        settings=lambda _: {"CCFS__PAUSE_AFTER": "1000"},
        others_go_on=True,
        whole=whole,
    )


def no_session(
    awaited: str,
    silence: Callable[[Bench], AbstractAsyncContextManager[None]],
    *,
    bound: str = AMQP_CONNECT,
    says: str = NO_SESSION.says,
    settings: Differences = lambda _: {},
    whole: bool = True,
) -> Row:
    """No session with RabbitMQ opens."""
    return Row(
        awaited,
        bound,
        replace(NO_SESSION, says=says),
        NEXT_SESSION,
        silence,
        meet=nothing,
        settings=settings,
        from_start=True,
        whole=whole,
    )


def unnoticed(
    awaited: str,
    bound: str,
    silence: Callable[[Bench], AbstractAsyncContextManager[None]],
    *,
    whole: bool = False,
) -> Row:
    """Nothing shows, and nothing waits."""
    return Row(awaited, bound, NONE, GO_ON, silence, meet=nothing, others_go_on=True, whole=whole)


STORAGE_ROWS = (
    Row("Volume: look (statvfs)", HANG_AFTER, VOLUME_OUT, PAUSE, hung("statvfs"), meet=nothing),
    Row("Volume: find (open)", HANG_AFTER, VOLUME_OUT, PAUSE, hung("open"), whole=True),
    Row("Volume: write", HANG_AFTER, VOLUME_OUT, PAUSE, hung("write")),
    Row("Volume: fsync", HANG_AFTER, VOLUME_OUT, PAUSE, hung("fsync"), whole=True),
    Row("Volume: rename", HANG_AFTER, VOLUME_OUT, PAUSE, hung("rename"), whole=True),
    Row("Volume: everything", HANG_AFTER, VOLUME_OUT, PAUSE, hung("all"), whole=True),
    Row(
        "Volume: sweep (readdir)",
        HANG_AFTER,
        VOLUME_OUT,
        PAUSE,
        hung("readdir"),
        meet=nothing,
        from_start=True,
        whole=True,
    ),
)

CCFS_ROWS = (
    Row(
        "CC-FS: its address (DNS)",
        CCFS_CONNECT,
        CCFS_OUT,
        PROBE,
        unresolved("localhost"),
        settings=lambda bench: {"CCFS__BASE_URL": f"https://localhost:{bench.ccfs.port}"},
        # Once it is known, it is kept for ten seconds.
        from_start=True,
    ),
    Row("CC-FS: connect (TCP)", CCFS_CONNECT, CCFS_OUT, PROBE, lambda bench: deaf(bench.ccfs)),
    Row(
        "CC-FS: connect (TLS)",
        CCFS_CONNECT,
        CCFS_OUT,
        PROBE,
        lambda bench: silent(bench.ccfs, cut=True),
        whole=True,
    ),
    Row(
        "CC-FS: request, to everybody",
        CCFS_IDLE,
        replace(CCFS_OUT, says="CC-FS did not answer in time"),
        PROBE,
        lambda bench: silent(bench.ccfs),
    ),
    Row(
        "CC-FS: probe, while intake pauses",
        f"{CCFS_CONNECT} and {CCFS_IDLE}",
        replace(CCFS_OUT, lines=3),
        PROBE,
        lambda bench: silent(bench.ccfs, cut=True),
        whole=True,
    ),
    one_account("CC-FS: headers, for one account", Silence(), whole=True),
    one_account("CC-FS: body, for one account", Stall()),
)

AMQP_ROWS = (
    no_session(
        "RabbitMQ: its address (DNS)",
        unresolved("localhost"),
        settings=lambda bench: {"AMQP__URL": f"amqp://guest:guest@localhost:{bench.amqp.port}/"},
    ),
    no_session("RabbitMQ: connect (TCP)", lambda bench: deaf(bench.amqp), whole=False),
    no_session(
        "RabbitMQ: connect (TLS)",
        lambda bench: silent(bench.amqps),
        settings=lambda bench: {
            "AMQP__URL": f"amqps://guest:guest@localhost:{bench.amqps.port}/",
            "AMQP__CA_FILE": str(bench.amqp_ca),
        },
    ),
    no_session("RabbitMQ: connect (handshake)", lambda bench: silent(bench.amqp, cut=True)),
    no_session("RabbitMQ: declare", answers_held(DECLARE_OK), bound="15 s", says="did not answer in time"),
    no_session(
        "RabbitMQ: consume", answers_held(CONSUME_OK), bound="15 s", says="a request to RabbitMQ failed"
    ),
    Row(
        "RabbitMQ: anything (heartbeats)",
        "three times `WORKER_AMQP__HEARTBEAT`, 6.5 s at least",
        replace(NO_SESSION, says="RabbitMQ", log="broker.lost"),
        "go on; what they end in waits for the next session",
        lambda bench: silent(bench.amqp),
        meet=nothing,
        settings=lambda _: {"AMQP__HEARTBEAT": "1"},
        whole=True,
    ),
    Row(
        "RabbitMQ: cancel, while intake pauses",
        "15 s",
        replace(CCFS_OUT, log="broker.lost"),
        "the session ends, another begins",
        cancel_held,
        whole=True,
    ),
    Row(
        "RabbitMQ: confirm",
        "none; reported after `WORKER_AMQP__PUBLISH_TIMEOUT`",
        CONFIRMS_LATE,
        "wait for their confirms; nothing is published twice",
        answers_held(ACK),
    ),
    unnoticed("RabbitMQ: queue lengths, for `/status`", "2 s", status_unanswered),
    unnoticed("RabbitMQ: close", "1.5 s", answers_held(CLOSE_OK), whole=True),
)

OTHER_ROWS = (
    Row(
        "Keys: an account's file",
        HANG_AFTER,
        KEYS_OUT,
        PAUSE,
        hung("key"),
        meet=Bench.publish_for_a_stranger,
    ),
    Row(
        "Traces: their collector",
        "`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s",
        NONE,
        GO_ON,
        lambda bench: silent(bench.amqps),
        variables=lambda bench: {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{bench.amqps.port}"},
        others_go_on=True,
        whole=True,
    ),
    unnoticed("Log: its reader", "none; 2 s at the end", unread_log),
    unnoticed("HTTP: the rest of a request", "30 s", half_a_request),
    unnoticed("HTTP: a client that reads its answer", "30 s", unread_answer),
)

ROWS = (*STORAGE_ROWS, *CCFS_ROWS, *AMQP_ROWS, *OTHER_ROWS)

_HEADINGS = ("waits for", "at most", "`/readyz`", "metric", "log", "other jobs")


def table() -> str:
    """The rows as the document has them."""
    lines = (_HEADINGS, ("---",) * len(_HEADINGS), *(row.cells for row in ROWS))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
