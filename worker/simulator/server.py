"""The simulator itself: an HTTPS server that admits requests, plans their answers and records them."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from aiohttp import web

from worker.ccfs.keys import KeyDirectory
from worker.simulator.admission import RawRequest, RefusedError, admit, claimed_account
from worker.simulator.bills import Bill
from worker.simulator.faults import Answer, Fault, ResultCode, WholeFile
from worker.simulator.options import SimulatorOptions
from worker.simulator.reply import Reply
from worker.simulator.requests import AnsweredRequest, ReceivedRequest

if TYPE_CHECKING:
    from worker.simulator.certificate import CertificateFiles

_REMEMBERED_FILES = 100_000
"""The most files whose requests are counted; the least recently requested one is forgotten first."""

Plan = Callable[[ReceivedRequest], Fault | None]
"""Decides what is wrong with a request's answer; None for nothing."""


class Simulator:
    """A simulated CC-FS, made by `open_simulator`.

    Attributes:
        ca_file: PEM file of the authority to trust; None over plain HTTP.
        plan: Decides on each answer; set your own to script them.
    """

    def __init__(self, options: SimulatorOptions, certificate: "CertificateFiles | None") -> None:
        self._options = options
        self._certificate = certificate
        self._keys = KeyDirectory(options.keys)
        self._port = options.port
        self._runner: web.ServerRunner | None = None
        self._history: deque[AnsweredRequest] = deque(maxlen=options.history)
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._downloads: Counter[str] = Counter()
        self._random = Random(options.seed)
        self.ca_file: Path | None = certificate.ca if certificate else None
        self.plan: Plan = lambda asked: options.fault_of(asked.app_id, asked.bill_file_name, asked.count)

    @property
    def url(self) -> str:
        """Its URL, such as `https://127.0.0.1:8443`."""
        scheme = "http" if self._options.plain else "https"
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        return f"{scheme}://{host}:{self._port}"

    @property
    def requests(self) -> list[AnsweredRequest]:
        """The requests so far, in the order in which their answers began."""
        return list(self._history)

    def bill(self, app_id: str, bill_file_name: str, *, sound: bool = True) -> Bill:
        """The file as it is served; with a wrong CRC unless `sound`."""
        return self._options.bill(app_id, bill_file_name, sound=sound)

    def digest(self, app_id: str, bill_file_name: str) -> str:
        """The SHA-256 of a file in lower-case hex; blocks for about a second per gigabyte."""
        return self._options.digest(app_id, bill_file_name)

    async def start(self) -> None:
        """Listen; does nothing while it already does.

        Raises:
            OSError: The address is taken or not ours.
        """
        if self._runner is not None:
            return
        # Without cancellation, an answer that keeps silent would outlive its client.
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, handle_signals=False)
        await runner.setup()
        try:
            tls = self._certificate.server_context() if self._certificate else None
            await web.TCPSite(runner, self._options.host, self._port, ssl_context=tls).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Cut all connections and refuse new ones, until the next `start`."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            # aiohttp would otherwise give each connection a minute to end by itself.
            for connection in runner.server.connections if runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        received_at = self._options.clock()
        raw = RawRequest(
            method=request.method,
            target=request.raw_path,
            headers=[
                (name.decode(errors="replace"), value.decode(errors="replace"))
                for name, value in request.raw_headers
            ],
            body=await request.read(),
        )
        try:
            asked = self._admit(raw, received_at)
        except RefusedError as refused:
            self._note(
                AnsweredRequest(
                    app_id=claimed_account(raw),
                    received_at=received_at,
                    answer=refused.answer.name,
                    reason=str(refused),
                )
            )
            return await refused.answer.send(Reply(request=request, now=received_at))
        return await self._serve(request, asked)

    async def _serve(self, request: web.BaseRequest, asked: ReceivedRequest) -> web.StreamResponse:
        answer = self._answer_to(asked)
        self._note(
            AnsweredRequest(
                app_id=asked.app_id,
                bill_file_name=asked.bill_file_name,
                signed_at=asked.signed_at,
                received_at=asked.received_at,
                answer=answer.name,
            )
        )
        reply = Reply(
            request=request,
            now=asked.received_at,
            make_bill=partial(self.bill, asked.app_id, asked.bill_file_name),
            bandwidth=self._options.bandwidth,
        )
        self._downloads[asked.app_id] += 1
        try:
            await asyncio.sleep(self._options.latency.draw(self._random))
            return await answer.send(reply)
        except ConnectionError:
            # The client has left. aiohttp would log that as an error of this handler, with a traceback.
            return web.Response()
        finally:
            # Subtracting a Counter also removes the accounts that have none left.
            self._downloads -= Counter([asked.app_id])

    def _admit(self, raw: RawRequest, received_at: datetime) -> ReceivedRequest:
        options = self._options
        asked = admit(
            raw,
            secret_key=self._keys.read,
            now=received_at,
            max_skew=options.max_skew,
            host=options.host_header,
        )
        file = asked.app_id, asked.bill_file_name
        # Taken out and put in again, the file is the last of the dictionary: the first is forgotten first.
        count = self._counts[file] = self._counts.pop(file, 0) + 1
        if len(self._counts) > _REMEMBERED_FILES:
            self._counts.popitem(last=False)
        return ReceivedRequest(
            app_id=asked.app_id,
            bill_file_name=asked.bill_file_name,
            signed_at=asked.signed_at,
            received_at=received_at,
            count=count,
        )

    def _answer_to(self, request: ReceivedRequest) -> Answer:
        if fault := self.plan(request):
            return fault
        if any(fnmatchcase(request.bill_file_name, pattern) for pattern in self._options.missing):
            return ResultCode(code="0300011")
        limit = self._options.downloads_per_app
        if limit is not None and self._downloads[request.app_id] >= limit:
            return ResultCode(code="0300008")
        return WholeFile()

    def _note(self, request: AnsweredRequest) -> None:
        self._history.append(request)
        self._options.on_answer(request)


@asynccontextmanager
async def open_simulator(options: SimulatorOptions) -> AsyncIterator[Simulator]:
    """Run a simulator for as long as the context lasts.

    Raises:
        ModuleNotFoundError: A certificate is needed, and the extra `simulator` is not installed.
        OSError: The address is taken or not ours, or the certificate cannot be written.
    """
    async with AsyncExitStack() as stack:
        certificate = None
        if not options.plain:
            from worker.simulator.certificate import ensure_certificate  # noqa: PLC0415 - an extra

            state = options.state or Path(stack.enter_context(TemporaryDirectory(prefix="ccfs-simulator-")))
            certificate = ensure_certificate(state, options.names)
        simulator = Simulator(options, certificate)
        stack.push_async_callback(simulator.stop)
        await simulator.start()
        yield simulator
