"""Start the worker for a sample, with deliveries, publishes, confirms and acks through aiormq as all else."""

import asyncio
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest.mock import patch

from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable

from worker.broker import publisher, wire
from worker.broker.frames import ACK, BODY, DELIVER, FRAME_HEAD, HEADER, METHOD, Message
from worker.broker.publisher import Publisher
from worker.broker.wire import Lane, Take, Wire
from worker.cli import main

_NO_CONSUMER_TAG = b"\0"
_TAG = struct.Struct(">Q")

_numbers = count()
_acking: set[asyncio.Task[None]] = set()
"""Acks on their way: the event loop refers to tasks weakly."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Properties that are bytes already, as pamqp and aiormq look at them."""

    raw: bytes
    message_id: str

    def marshal(self) -> bytes:
        """Give the bytes."""
        return self.raw


class LibraryLane(Lane):
    """A channel whose deliveries and acks go through aiormq."""

    def divert(self, take: Take) -> None:
        """Keep where deliveries go."""
        self._take = take

    async def consume(
        self, queue: str, *, arguments: FieldTable | None = None, timeout: float | None = None
    ) -> str:
        """Start a consumer of aiormq."""
        answer = await self.channel.basic_consume(queue, self._received, arguments=arguments, timeout=timeout)
        return str(answer.consumer_tag)

    def send(self, frames: bytes) -> None:
        """Ack by aiormq: nothing else is sent on such a channel as long as nothing fails."""
        if not frames.startswith(ACK, FRAME_HEAD.size):
            raise RuntimeError("this sample can only ack")
        (tag,) = _TAG.unpack_from(frames, FRAME_HEAD.size + len(ACK))
        task = asyncio.get_running_loop().create_task(self.channel.basic_ack(tag, wait=False))
        _acking.add(task)
        task.add_done_callback(_acking.discard)

    async def _received(self, message: DeliveredMessage) -> None:
        delivery: Any = message.delivery
        receipt = _TAG.pack(delivery.delivery_tag) + bytes((delivery.redelivered,))
        self._take(METHOD, DELIVER + _NO_CONSUMER_TAG + receipt)
        self._take(HEADER, message.header.marshal())
        if message.body:
            self._take(BODY, message.body)


class LibraryPublisher(Publisher):
    """Publishes and waits for confirms by aiormq."""

    async def to_exchange(self, name: str, message: Message, routing_key: str) -> None:
        """Publish a message. Raises aiormq's errors."""
        properties: Any = Encoded(message.properties.raw, str(next(_numbers)))
        await self._lane.channel.basic_publish(
            message.body, exchange=name, routing_key=routing_key, properties=properties, mandatory=True
        )


if __name__ == "__main__":
    with ExitStack() as stack:
        stack.enter_context(patch.object(wire, "Lane", LibraryLane))
        stack.enter_context(patch.object(publisher, "Publisher", LibraryPublisher))
        stack.enter_context(patch.object(Wire, "data_received", asyncio.StreamReaderProtocol.data_received))
        main(["run"])
