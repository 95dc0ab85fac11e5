"""What the worker waits for, and what is to be seen when it waits in vain: the table of docs/reliability.md.

A row is data. `tests/faults/test_silence.py` makes each of them come true.
"""

import asyncio
import fcntl
import os
import select
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from devkit.run.worker_process import WorkerProcess
from tests.faults.proxy import Proxy
from tests.installation import APP, Site, bill
from worker.simulator import Fault
from worker.simulator.faults import Silence, Stall

GRACE = "0.5"
OTHER = "other"
"""An account that meets nothing unusual."""
DECLARE_OK, CONSUME_OK, CANCEL_OK, ACK, CLOSE_OK = (50, 11), (60, 21), (60, 31), (60, 80), (10, 51)
"""Methods of AMQP 0-9-1, each by its class and its number in it."""
_POLL = 0.02
_PATIENCE = 60.0


@dataclass
class Bench:
    """An installation between two proxies, with switches for what may keep silent.

    Attributes:
        site: The installation.
        amqp: The line to its broker.
        amqps: The same over TLS.
        amqp_ca: Who vouches for the broker there.
        ccfs: The line to its CC-FS.
        disk: The switch of `failing_disk.c`.
        resolver: The switch of `deaf_resolver.c`.
        log: Reads what the worker prints.
        running: The worker.
    """

    site: Site
    amqp: Proxy
    amqps: Proxy
    amqp_ca: Path
    ccfs: Proxy
    disk: Path
    resolver: Path
    log: "Reader"
    running: WorkerProcess = field(init=False)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def worker(self, row: "Row") -> WorkerProcess:
        """A worker with short bounds, `running` from now on, not yet started."""
        short = {
            "AMQP__CONNECT_TIMEOUT": "0.5",
            "AMQP__PUBLISH_TIMEOUT": "0.5",
            "CCFS__BASE_URL": f"https://127.0.0.1:{self.ccfs.port}",
            "CCFS__CONNECT_TIMEOUT": "0.5",
            "CCFS__IDLE_TIMEOUT": "0.5",
            "CCFS__PAUSE_AFTER": "1",
            "CONCURRENCY": "4",
            "RETRY__DELAYS": str([0.1] * 32),
            "SHUTDOWN_GRACE": GRACE,
            "STORAGE__CHECK_INTERVAL": "0.1",
            "STORAGE__HANG_AFTER": "1",
        }
        settings = self.site.settings(**(short | dict(row.settings(self))))
        variables = settings | dict(row.variables(self))
        self.running = WorkerProcess(variables, log_file=self.log.file, output=self.log.pipe)
        return self.running

    async def publish(self, app_id: str = APP) -> str:
        """Publish one job for a file that nobody has asked for yet."""
        (job_id,) = await self.site.publish(bill(next(self._numbers)), app_id=app_id)
        return job_id

    async def publish_for_a_stranger(self) -> str:
        """Publish one job of an account whose key nobody has read yet."""
        app_id = f"stranger{next(self._numbers)}"
        self.site.add_key(app_id, "secret")
        return await self.publish(app_id)

    async def done(self, app_id: str = APP) -> None:
        """Have one job done."""
        job_id = await self.publish(app_id)
        await self.site.until(lambda: job_id in self.site.ledger.outcomes)

    async def accounted_for(self) -> None:
        """Wait until each job has an outcome or waits in the broker."""
        names = self.site.names
        queues = (names.jobs, names.dropped, names.tier(0.1))

        async def is_so() -> bool:
            lengths = [await self.site.queue_length(queue) for queue in queues]
            return sum(lengths) >= len(self.site.ledger.open_jobs)

        await until(is_so, "jobs are neither in the broker nor done")


class Reader:
    """Reads what a worker prints, as a container runtime does, and writes it to a file.

    Attributes:
        pipe: The end for the worker.
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._end, self.pipe = os.pipe()
        fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        self.file = file
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more than what comes next, until `go_on`."""
        self._reads.clear()

    def go_on(self) -> None:
        """Read again."""
        self._reads.set()

    def close(self) -> None:
        """Read the rest; nobody may print any more."""
        os.close(self.pipe)
        self.go_on()
        self._thread.join()
        os.close(self._end)

    def _read(self) -> None:
        with self.file.open("ab", buffering=0) as file:
            while piece := os.read(self._end, select.PIPE_BUF):
                self._reads.wait()
                file.write(piece)


async def until(condition: Callable[[], Awaitable[bool]], complaint: str) -> None:
    """Ask again and again until it is so."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while not await condition():  # noqa: ASYNC110 - what happens in another process is no event here
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise AssertionError(complaint) from None


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something that the worker waits for.

    Attributes:
        awaited: What.
        bound: What bounds the wait: settings, or seconds that are fixed.
        check: The check of `/readyz` that fails; empty when the worker stays ready.
        says: A part of that check's detail.
        metric: A sample, and how it compares: `name{label="value"} == 1`, without `ccfs_worker_`.
        log: The event that is logged; empty for none.
        lines: How often.
        others: What goes on meanwhile.
        silence: Begins the silence, and ends it on leaving.
        meet: What the worker is given to meet it with.
        settings: Those of the worker that differ.
        variables: Those that are no settings.
        from_start: Whether it is met while the worker starts.
        others_go_on: Whether another account's job is done meanwhile.
        whole: Whether only `make faults` runs it.
    """

    awaited: str
    bound: str
    check: str
    says: str
    metric: str
    log: str
    others: str
    lines: int = 1
    silence: Callable[[Bench], AbstractAsyncContextManager[None]]
    meet: Callable[[Bench], Awaitable[object]] = Bench.publish
    settings: Callable[[Bench], Mapping[str, str]] = lambda _: {}
    variables: Callable[[Bench], Mapping[str, str]] = lambda _: {}
    from_start: bool = False
    others_go_on: bool = False
    whole: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as the document has it."""
        readiness = f"`{self.check}`: {self.says}" if self.check else "ready"
        log = f"`{self.log}`" if self.log else "nothing"
        metric = f"`{self.metric}`" if self.metric else "none"
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


_VOLUME = Row(
    awaited="",
    bound="`WORKER_STORAGE__HANG_AFTER`",
    check="intake",
    says="the volume does not answer since",
    metric='intake_paused{reason="storage"} == 1',
    log="storage.hangs",
    others="intake pauses",
    silence=hung(),
)
_CCFS = Row(
    awaited="",
    bound="`WORKER_CCFS__CONNECT_TIMEOUT`",
    check="intake",
    says="no connection within WORKER_CCFS__CONNECT_TIMEOUT",
    metric='intake_paused{reason="upstream"} == 1',
    log="upstream.silent",
    others="intake pauses; one probe at a time",
    silence=hung(),
)
_ONE_ACCOUNT = Row(
    awaited="",
    bound="`WORKER_CCFS__IDLE_TIMEOUT`",
    check="",
    says="",
    metric='attempts_total{code="TIMEOUT"} > 0',
    log="job.retried",
    others="go on",
    silence=hung(),
    settings=lambda _: {"CCFS__PAUSE_AFTER": "1000"},
    others_go_on=True,
)
_BROKER = Row(
    awaited="",
    bound="`WORKER_AMQP__CONNECT_TIMEOUT`",
    check="broker",
    says="did not answer within",
    metric='check_ok{check="broker"} == 0',
    log="broker.unavailable",
    others="the next session is tried",
    silence=hung(),
    meet=nothing,
    from_start=True,
)
_NOBODY = Row(
    awaited="",
    bound="",
    check="",
    says="",
    metric="",
    log="",
    others="go on",
    silence=hung(),
    meet=nothing,
    others_go_on=True,
)

CCFS_ROWS = (
    replace(
        _CCFS,
        awaited="CC-FS: its address (DNS)",
        silence=unresolved("localhost"),
        settings=lambda bench: {"CCFS__BASE_URL": f"https://localhost:{bench.ccfs.port}"},
        # Once it is known, it is kept for ten seconds.
        from_start=True,
    ),
    replace(_CCFS, awaited="CC-FS: connect (TCP)", silence=lambda bench: deaf(bench.ccfs)),
    replace(
        _CCFS, awaited="CC-FS: connect (TLS)", whole=True, silence=lambda bench: silent(bench.ccfs, cut=True)
    ),
    replace(
        _CCFS,
        awaited="CC-FS: request, to everybody",
        bound="`WORKER_CCFS__IDLE_TIMEOUT`",
        says="CC-FS did not answer in time",
        silence=lambda bench: silent(bench.ccfs),
    ),
    replace(
        _CCFS,
        awaited="CC-FS: probe, while intake pauses",
        bound="`WORKER_CCFS__CONNECT_TIMEOUT` and `WORKER_CCFS__IDLE_TIMEOUT`",
        silence=lambda bench: silent(bench.ccfs, cut=True),
        lines=3,
        whole=True,
    ),
    replace(
        _ONE_ACCOUNT, awaited="CC-FS: headers, for one account", whole=True, silence=answered_by(Silence())
    ),
    replace(_ONE_ACCOUNT, awaited="CC-FS: body, for one account", silence=answered_by(Stall())),
)

AMQP_ROWS = (
    replace(
        _BROKER,
        awaited="RabbitMQ: its address (DNS)",
        whole=True,
        silence=unresolved("localhost"),
        settings=lambda bench: {"AMQP__URL": f"amqp://guest:guest@localhost:{bench.amqp.port}/"},
    ),
    replace(_BROKER, awaited="RabbitMQ: connect (TCP)", silence=lambda bench: deaf(bench.amqp)),
    replace(
        _BROKER,
        awaited="RabbitMQ: connect (TLS)",
        whole=True,
        silence=lambda bench: silent(bench.amqps),
        settings=lambda bench: {
            "AMQP__URL": f"amqps://guest:guest@localhost:{bench.amqps.port}/",
            "AMQP__CA_FILE": str(bench.amqp_ca),
        },
    ),
    replace(
        _BROKER,
        awaited="RabbitMQ: connect (handshake)",
        whole=True,
        silence=lambda bench: silent(bench.amqp, cut=True),
    ),
    replace(
        _BROKER,
        awaited="RabbitMQ: declare",
        whole=True,
        bound="15 s",
        says="could not be set up",
        silence=answers_held(DECLARE_OK),
    ),
    replace(
        _BROKER,
        awaited="RabbitMQ: consume",
        whole=True,
        bound="15 s",
        says="did not do as told",
        silence=answers_held(CONSUME_OK),
    ),
    replace(
        _BROKER,
        awaited="RabbitMQ: anything (heartbeats)",
        whole=True,
        bound="three times `WORKER_AMQP__HEARTBEAT`, 6.5 s at least",
        says="RabbitMQ",
        log="broker.lost",
        others="go on; what they end in waits for the next session",
        silence=lambda bench: silent(bench.amqp),
        settings=lambda _: {"AMQP__HEARTBEAT": "1"},
        from_start=False,
    ),
    replace(
        _CCFS,
        awaited="RabbitMQ: cancel, while intake pauses",
        whole=True,
        bound="15 s",
        log="broker.lost",
        others="the session ends, another begins",
        silence=cancel_held,
    ),
    replace(
        _NOBODY,
        awaited="RabbitMQ: confirm",
        bound="none; told after `WORKER_AMQP__PUBLISH_TIMEOUT`",
        check="results",
        says="has not confirmed a message since",
        metric='check_ok{check="results"} == 0',
        log="broker.confirms_late",
        others="wait for their confirms; nothing is published twice",
        silence=answers_held(ACK),
        meet=Bench.publish,
        others_go_on=False,
    ),
    replace(
        _NOBODY, awaited="RabbitMQ: queue lengths, for `/status`", bound="2 s", silence=status_unanswered
    ),
    replace(_NOBODY, awaited="RabbitMQ: close", whole=True, bound="1.5 s", silence=answers_held(CLOSE_OK)),
)

STORAGE_ROWS = (
    replace(_VOLUME, awaited="Volume: look (statvfs)", silence=hung("statvfs"), meet=nothing),
    replace(_VOLUME, awaited="Volume: find (open)", whole=True, silence=hung("open")),
    replace(_VOLUME, awaited="Volume: write", silence=hung("write")),
    replace(_VOLUME, awaited="Volume: fsync", whole=True, silence=hung("fsync")),
    replace(_VOLUME, awaited="Volume: rename", whole=True, silence=hung("rename")),
    replace(_VOLUME, awaited="Volume: everything", whole=True, silence=hung("all")),
    replace(
        _VOLUME,
        awaited="Volume: sweep (readdir)",
        silence=hung("readdir"),
        meet=nothing,
        from_start=True,
        whole=True,
    ),
)

OTHER_ROWS = (
    replace(
        _VOLUME,
        awaited="Keys: an account's file",
        says="the key directory does not answer since",
        metric='intake_paused{reason="keys"} == 1',
        log="keys.hang",
        silence=hung("key"),
        meet=Bench.publish_for_a_stranger,
    ),
    replace(
        _NOBODY,
        awaited="Traces: their collector",
        whole=True,
        bound="`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s",
        silence=lambda bench: silent(bench.amqps),
        meet=Bench.publish,
        variables=lambda bench: {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{bench.amqps.port}"},
    ),
    replace(_NOBODY, awaited="Log: its reader", bound="none; 2 s at the end", silence=unread_log),
    replace(_NOBODY, awaited="HTTP: the rest of a request", bound="30 s", silence=half_a_request),
    replace(_NOBODY, awaited="HTTP: a client that reads its answer", bound="30 s", silence=unread_answer),
)

ROWS = (*STORAGE_ROWS, *CCFS_ROWS, *AMQP_ROWS, *OTHER_ROWS)

_HEADINGS = ("waits for", "at most", "`/readyz`", "metric", "log", "other jobs")


def table() -> str:
    """The rows as the document has them."""
    lines = (_HEADINGS, ("---",) * len(_HEADINGS), *(row.cells for row in ROWS))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
