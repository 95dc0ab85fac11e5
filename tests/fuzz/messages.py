"""A message on its whole way: frames in, job, event, retry, parked and replayed copy, frames out.

Between the real frame reader and the real publisher lies a broker that only takes, confirms and returns.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp.header import ContentHeader

from schemas import ErrorCode, Outcome
from tests.fuzz import grammar
from tests.fuzz.grammar import FRAME_MAX, Drawn
from tests.raw_amqp import table
from worker.broker import AmqpDelivery, Names, frames, messages, tables
from worker.broker.delivery import Origin, Outlet
from worker.broker.properties import (
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    TIMESTAMP,
    USER_ID,
    Properties,
    written,
)
from worker.broker.publisher import NewestPublisher, Publisher, publisher
from worker.broker.wire import Lane, Wire
from worker.core.job import Job, read_job
from worker.core.outcome import Execution, failed
from worker.core.retry import Retry
from worker.errors import JobError, NotConfirmedError

if TYPE_CHECKING:
    import aiormq
    from aio_pika.abc import AbstractChannel

    from worker.broker.connection import AmqpConnection

_GOOD = b'{"appId": "app1", "billFileName": "20260131_a.zip"}'
_BODIES = (_GOOD, b"", b"nonsense", _GOOD.ljust(65_536), _GOOD.ljust(65_537), b"x" * 200_000)
_CONSUMING, _PUBLISHING = 1, 2
_HEAD = 12
_MOST_READS = 200
_NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
_ERROR = JobError(ErrorCode.INVALID_JOB, "no")
_THEIRS = {b"traceparent", b"tracestate", b"x-headers-dropped", b"CCFS-Tag", b"x-death-row"}
_NOT_THEIRS = set(grammar.NAMES) - _THEIRS | {messages.PUBLISHED_BY.encode()}


@given(drawn=grammar.properties(), body=st.sampled_from(_BODIES), step=st.integers(1, 5000))
def a_message_goes_round(drawn: Drawn, body: bytes, step: int) -> None:
    """Nothing is raised, no frame is too large, and the publisher's bytes come out as they went in."""
    asyncio.run(_go_round(drawn, body, step))


async def _go_round(drawn: Drawn, body: bytes, step: int) -> None:
    broker = await _Broker.open()
    first = broker.deliver(drawn.raw, body, step)
    job = read_job(first.envelope)
    _check_job(job, drawn)

    _check_event(await broker.takes(first.publish(_outcome(job), job)), job)
    retry = await broker.takes(first.retry(Retry(60.0, 2)))
    _check_copy(retry, drawn)
    second = read_job(broker.deliver(retry.properties.raw, retry.body, step).envelope)
    assert second.attempt == 2
    assert second.job_id == job.job_id or len(body) > len(retry.body)
    parked = await broker.takes(first.park(_ERROR, job))
    _check_copy(parked, drawn)
    assert read_job(messages.read_letter(parked)).job_id == job.job_id
    again = messages.replayed_copy(parked, frame_max=FRAME_MAX)
    replayed = await broker.takes(broker.publisher.to_queue("jobs", again))
    if not _is_without_headers(parked.properties):
        _check_copy(replayed, drawn, but=TIMESTAMP)
    await broker.returns(first.retry(Retry(60.0, 2)))


def _outcome(job: Job) -> Outcome:
    return failed(job, _ERROR, Execution(started_at=_NOW, finished_at=_NOW, worker="w"))


def _check_job(job: Job, drawn: Drawn) -> None:
    assert job.job_id
    assert (job.request is None) == bool(job.defect)
    if not drawn.mangled:
        assert ("nested more than" in job.defect) == (drawn.depth > tables.MAX_DEPTH)


def _check_event(event: frames.Message, job: Job) -> None:
    """Another library reads it."""
    header = ContentHeader()
    header.unmarshal(b"\0" * _HEAD + event.properties.raw)
    assert header.properties.correlation_id == job.correlation_id
    assert header.properties.headers is not None
    assert len(str(header.properties.headers.get("tracestate", ""))) <= 512


def _check_copy(copy: frames.Message, drawn: Drawn, *, but: int = 0) -> None:
    values = copy.properties.values()
    headers = values.pop(HEADERS)
    assert values.pop(DELIVERY_MODE) == b"\2"
    found = [(one.name, headers[one.start : one.end]) for one in tables.fields(headers, 4, len(headers))]
    if drawn.mangled:
        return
    left_out = {DELIVERY_MODE, EXPIRATION, USER_ID, but}
    expected = {flag: value for flag, value in drawn.values.items() if flag not in left_out}
    assert {flag: value for flag, value in values.items() if flag != but} == expected
    theirs = [octets for octets in drawn.headers or () if octets[1 : 1 + octets[0]] not in _NOT_THEIRS]
    if _is_without_headers(copy.properties):
        # Ours are the ones that stand there now; the reason why is not among what did not fit.
        ours = [octets for name, octets in found if name != b"x-headers-dropped"]
        whole = written({**values, HEADERS: table(*theirs, *ours), DELIVERY_MODE: b"\2"})
        assert not frames.fits(Properties(whole), FRAME_MAX)
    else:
        assert [octets for name, octets in found if name not in _NOT_THEIRS] == theirs


def _is_without_headers(properties: Properties) -> bool:
    return "does not fit into a frame" in str(properties.header(messages.HEADERS_DROPPED))


@dataclass(frozen=True)
class _Channel:
    """What a lane wants of aiormq's channel."""

    number: int
    closing: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_closed = False

    @property
    def connection(self) -> "_Channel":
        return self

    @property
    def connection_tune(self) -> spec.Connection.Tune:
        return spec.Connection.Tune(frame_max=FRAME_MAX)


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


class _Broker:
    """Takes what is published, and delivers."""

    def __init__(self) -> None:
        self._wire = Wire(asyncio.StreamReader())
        self._transport = _Transport()
        self._wire.connection_made(self._transport)
        self._delivered: list[tuple[frames.Message, frames.Receipt]] = []
        self._published = 0
        self._consuming = self._wire.lane(cast("aiormq.Channel", _Channel(_CONSUMING)))
        self._consuming.divert(frames.Assembly(frames.DELIVER, self._arrive).take)
        self.publisher: Publisher

    @classmethod
    async def open(cls) -> "_Broker":
        """One whose publishing channel is open."""
        broker = cls()
        channel = cast("AbstractChannel", _Channel(_PUBLISHING))
        broker.publisher = await publisher(cast("AmqpConnection", broker), channel)
        return broker

    async def lane(self, channel: "aiormq.Channel") -> Lane:
        """Stands for `Connection.lane`."""
        return self._wire.lane(channel)

    def deliver(self, raw: bytes, body: bytes, step: int) -> AmqpDelivery:
        """Deliver a message, so many bytes at a time, unless it is large."""
        method = frames.DELIVER + b"\x01c" + (7).to_bytes(8, "big") + b"\0\0\0"
        data = _content(_CONSUMING, method, raw, body)
        self._receive(data, max(step, len(data) // _MOST_READS))
        message, receipt = self._delivered.pop()
        assert not self._delivered
        outlet = Outlet(self.publisher, NewestPublisher(), Names())
        return AmqpDelivery(message, receipt, Origin(self._consuming), outlet)

    async def takes(self, publishing: Coroutine[None, None, None]) -> frames.Message:
        """What is published, which the broker confirms."""
        task, message = await self._publish(publishing)
        self._receive(frames.ack(_PUBLISHING, self._published))
        await task
        return message

    async def returns(self, publishing: Coroutine[None, None, None]) -> None:
        """The broker says of what is published that no queue takes it, and its publisher hears of that."""
        task, message = await self._publish(publishing)
        method = frames.RETURN + b"\x01\x38\0\0\0"
        self._receive(_content(_PUBLISHING, method, message.properties.raw, message.body))
        self._receive(frames.ack(_PUBLISHING, self._published))
        with pytest.raises(NotConfirmedError, match="no queue takes"):
            await task

    async def _publish(
        self, publishing: Coroutine[None, None, None]
    ) -> tuple[asyncio.Task[None], frames.Message]:
        task = asyncio.create_task(publishing)
        await asyncio.sleep(0)
        self._wire.flush()
        self._published += 1
        taken: list[frames.Message] = []
        assembly = frames.Assembly(frames.PUBLISH, lambda _, message: taken.append(message))
        for kind, payload in self._frames():
            assert assembly.take(kind, payload)
        (message,) = taken
        return task, message

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """The frames that were written, none of them larger than may be."""
        data = bytes(self._transport.written)
        self._transport.written.clear()
        while data:
            kind, _, size = frames.FRAME_HEAD.unpack_from(data)
            end = frames.FRAME_HEAD.size + size + 1
            assert end <= FRAME_MAX
            assert data[end - 1 : end] == frames.FRAME_END
            yield kind, data[frames.FRAME_HEAD.size : end - 1]
            data = data[end:]

    def _receive(self, data: bytes, step: int = 1 << 20) -> None:
        for start in range(0, len(data), step):
            self._wire.data_received(data[start : start + step])

    def _arrive(self, method: bytes, message: frames.Message) -> None:
        self._delivered.append((message, frames.read_deliver(method)))


def _content(channel: int, method: bytes, raw: bytes, body: bytes) -> bytes:
    """A method and its content, as the broker sends them."""
    header = b"\0\x3c\0\0" + len(body).to_bytes(8, "big") + raw
    pieces = [body[start : start + FRAME_MAX - 8] for start in range(0, len(body), FRAME_MAX - 8)]
    payloads = [(frames.METHOD, method), (frames.HEADER, header), *((frames.BODY, piece) for piece in pieces)]
    return b"".join(
        frames.FRAME_HEAD.pack(kind, channel, len(payload)) + payload + frames.FRAME_END
        for kind, payload in payloads
    )
