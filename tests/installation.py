"""A whole installation for a test: broker, CC-FS simulator, storage, keys, an upstream that keeps account."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from pydantic import TypeAdapter

from devkit.demo.ledger import Counts, Ledger
from devkit.run.worker_process import WorkerProcess
from schemas import Outcome
from tests.amqp import outside_channel, take
from worker.broker import Names
from worker.simulator import Simulator

APP = "app1"
PATIENCE = 90.0
DELIVERY_LIMIT = 5
_PAUSE = 0.05
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def bill(number: int, *, day: str = "20260131") -> str:
    """The name of a file."""
    return f"{day}_{number:08d}.zip"


@dataclass
class Site:
    """One installation; the fixture `site` makes it.

    Attributes:
        url: the broker, as workers reach it.
        own_url: the broker, as the upstream reaches it; differs where a proxy stands before the workers.
        names: its queues and exchanges.
        simulator: its CC-FS.
        folder: the test's folder.
        root: its storage.
        keys: its key directory.
    """

    url: str
    own_url: str
    names: Names
    simulator: Simulator
    folder: Path
    root: Path
    keys: Path
    messages: dict[str, list[AbstractIncomingMessage]] = field(default_factory=dict)
    ledger: Ledger = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.root, self.simulator.digest)

    def settings(self, **changes: str) -> dict[str, str]:
        """The variables of a worker here; `changes` are written without prefix, `None` values are not set."""
        ccfs_ca = self.simulator.ca_file
        defaults = {
            "AMQP__URL": self.url,
            "AMQP__JOBS_QUEUE": self.names.jobs,
            "AMQP__RESULTS_EXCHANGE": self.names.results,
            "AMQP__RESULTS_QUEUE": self.names.results_queue or "",
            "AMQP__DEAD_QUEUE": self.names.dead,
            "AMQP__FAILED_QUEUE": self.names.failed or "",
            "AMQP__DELIVERY_LIMIT": str(DELIVERY_LIMIT),
            "CCFS__BASE_URL": self.simulator.url,
            "CREDENTIALS__DIR": str(self.keys),
            "STORAGE__ROOT": str(self.root),
            "STORAGE__MIN_FREE_BYTES": "0",
            "CONCURRENCY": "8",
            "RETRY__DELAYS": "[0.2, 0.4, 0.8]",
            "LOG__LEVEL": "DEBUG",
        }
        if ccfs_ca is not None:
            defaults["CCFS__CA_FILE"] = str(ccfs_ca)
        return {f"WORKER_{name}": value for name, value in (defaults | changes).items()}

    def worker(self, name: str = "worker", **changes: str) -> WorkerProcess:
        """A worker of this installation, not yet started."""
        return WorkerProcess(self.settings(**changes), log_file=self.folder / f"{name}.log")

    def add_key(self, app_id: str, secret: str) -> None:
        """Give an account a key, or another one."""
        # By rename, as a mounted Secret changes: a reader sees the old file or the new one.
        fresh = self.keys / f".{app_id}"
        fresh.write_text(f"{secret}\n")
        fresh.replace(self.keys / app_id)

    async def publish(self, *files: str, app_id: str = APP) -> list[str]:
        """Publish jobs and have each confirmed; gives their ids."""
        return await self.publish_raw((f"{app_id}/{file}", self.body(file, app_id)) for file in files)

    def body(self, file: str, app_id: str = APP) -> bytes:
        """The body of a job."""
        return json.dumps({"appId": app_id, "billFileName": file}).encode()

    async def publish_raw(self, messages: Iterable[tuple[str, bytes]]) -> list[str]:
        """Publish bodies under ids, until the broker has confirmed each."""
        waiting = dict(messages)
        published = list(waiting)
        while waiting:
            with suppress(*CONNECTION_EXCEPTIONS):
                async with await aio_pika.connect(self.own_url) as connection:
                    channel = await connection.channel(on_return_raises=True)
                    await asyncio.gather(*(self._publish(channel, waiting, job_id) for job_id in waiting))
            if waiting:
                await asyncio.sleep(_PAUSE)
        return published

    async def _publish(self, channel: AbstractChannel, waiting: dict[str, bytes], job_id: str) -> None:
        self.ledger.intend(job_id)
        message = aio_pika.Message(waiting[job_id], message_id=job_id, delivery_mode=2)
        await channel.default_exchange.publish(message, self.names.jobs)
        self.ledger.publish(job_id)
        del waiting[job_id]

    async def collect(self) -> None:
        """Take outcomes from the results queue, whatever happens to the broker, until cancelled."""
        while True:
            with suppress(*CONNECTION_EXCEPTIONS):
                await self._collect_while_connected()
            await asyncio.sleep(_PAUSE)

    async def _collect_while_connected(self) -> None:
        closed = asyncio.Event()
        async with await aio_pika.connect(self.own_url) as connection:
            connection.close_callbacks.add(lambda *_: closed.set())
            channel = await connection.channel()
            channel.close_callbacks.add(lambda *_: closed.set())
            queue = await channel.get_queue(self.names.results_queue or "", ensure=True)
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(lambda _: closed.set())
            await queue.consume(self._take)
            await closed.wait()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        outcome = _OUTCOME.validate_json(message.body, strict=False)
        self.ledger.settle(outcome)
        self.messages.setdefault(outcome.job_id, []).append(message)
        await message.ack()
        self._changed.set()

    async def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something that outcomes bring about is so."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no outcome of {sorted(self.ledger.open_jobs)[:10]}") from None

    async def settled(self, patience: float = PATIENCE) -> Counts:
        """Wait until every job has an outcome; gives the counts."""
        await self.until(lambda: not self.ledger.open_jobs, patience)
        return await asyncio.to_thread(self.ledger.counts)

    async def queue_length(self, queue: str) -> int:
        """How many messages wait in a queue."""
        async with await aio_pika.connect(self.own_url) as connection:
            channel = await connection.channel()
            held = await channel.declare_queue(queue, passive=True)
            return held.declaration_result.message_count or 0

    async def unbind_results(self) -> None:
        """Leave the results exchange without any queue, as an operator may by mistake."""
        async with outside_channel(self.own_url) as channel:
            results = await channel.get_queue(self.names.results_queue or "")
            await results.unbind(self.names.results, "#")

    async def delete_jobs_queue(self) -> None:
        """Delete the job queue with all that is in it."""
        async with outside_channel(self.own_url) as channel:
            await channel.queue_delete(self.names.jobs)

    async def bind_results(self) -> None:
        """Bind the results queue again."""
        async with outside_channel(self.own_url) as channel:
            results = await channel.get_queue(self.names.results_queue or "")
            await results.bind(self.names.results, "#")

    async def take(self, queue: str) -> AbstractIncomingMessage:
        """Wait for the next message of a queue and ack it."""
        async with outside_channel(self.own_url) as channel:
            return await take(channel, queue)

    def leftovers(self) -> list[Path]:
        """Temporary files in the storage."""
        return list(self.root.glob("*/*/.*"))


@asynccontextmanager
async def collecting(site: Site) -> AsyncIterator[Site]:
    """Collect outcomes meanwhile."""
    task = asyncio.create_task(site.collect())
    try:
        yield site
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
