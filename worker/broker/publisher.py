"""Publishes with confirms: each publish ends confirmed, refused, returned, or lost with its channel.

The worker gives no `timeout` here, since the broker may have taken a message that it has not confirmed:
`worker.core.unconfirmed` reports a late confirm, and nothing is published again. Only the copy of a failed
job is given up, by `worker.core.deliveries`. A command has to end, and gives a `timeout`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from itertools import takewhile

from aio_pika.abc import AbstractChannel

from worker.broker import frames
from worker.broker.connection import AmqpConnection, open_channel
from worker.broker.frames import Message
from worker.broker.messages import publish_id
from worker.broker.wire import Lane
from worker.errors import NotConfirmedError, SessionLostError


class _Word(Enum):
    """The broker's answer to a publish."""

    ACK = auto()
    NACK = auto()
    RETURN = auto()


class _Confirms:
    """The publishes of a channel that have no answer yet.

    The broker numbers them from 1. It sends `basic.return` of a message before it acks it, so that the return
    settles the publish and the ack that follows is ignored.
    """

    def __init__(self) -> None:
        self._last_tag = 0
        self._waiting: dict[int, asyncio.Future[_Word]] = {}
        self._returnable: dict[int | None, asyncio.Future[_Word]] = {}
        self._returned = frames.Assembly(frames.RETURN, self._return)

    def expect(self, message: Message) -> asyncio.Future[_Word]:
        """Give the future of the broker's answer. The message must be the next one that is published."""
        self._last_tag += 1
        number = publish_id(message.properties)
        word: asyncio.Future[_Word] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_tag] = self._returnable[number] = word
        word.add_done_callback(lambda _: self._returnable.pop(number, None))
        return word

    def take(self, kind: int, payload: bytes) -> bool:
        """Take a frame of the channel; see `Lane.divert`."""
        if kind == frames.METHOD:
            if payload.startswith(frames.ACK):
                self._settle(frames.read_confirm(payload), _Word.ACK)
                return True
            if payload.startswith(frames.NACK):
                self._settle(frames.read_confirm(payload), _Word.NACK)
                return True
        return self._returned.take(kind, payload)

    def lose(self) -> None:
        """The channel is closed: nothing more will be confirmed."""
        waiting, self._waiting = self._waiting, {}
        for word in waiting.values():
            if not word.done():
                word.set_exception(SessionLostError("the connection broke while publishing"))

    def _settle(self, confirm: frames.Confirm, word: _Word) -> None:
        if not confirm.multiple:
            self._say(confirm.tag, word)
            return
        # The dictionary keeps the order of publishing, so that its tags ascend.
        for tag in list(takewhile(lambda tag: tag <= confirm.tag, self._waiting)):
            self._say(tag, word)

    def _say(self, tag: int, word: _Word) -> None:
        waiting = self._waiting.pop(tag, None)
        # The waiting task may be cancelled, or have its answer from `basic.return`.
        if waiting is not None and not waiting.done():
            waiting.set_result(word)

    def _return(self, _: bytes, message: Message) -> None:
        waiting = self._returnable.get(publish_id(message.properties))
        if waiting is not None and not waiting.done():
            waiting.set_result(_Word.RETURN)


class Publisher:
    """Publishes mandatory and with confirms (RabbitMQ "Consumer Acknowledgements and Publisher Confirms").

    Made by `publisher`. A publish ends with the broker's answer (ack, nack or return) or with the channel.
    Time alone does not end it: a late confirm still counts, and publishing again meanwhile would duplicate
    the message.

    Args:
        lane: A channel with confirms, on which nothing else is published.
        confirms: Takes the broker's answers on it.
        timeout: Seconds to wait for each confirm; None is no limit. For commands, which have to end.
        on_return: Called when no queue takes a message.
    """

    def __init__(
        self, lane: Lane, confirms: _Confirms, *, timeout: float | None, on_return: Callable[[], None]
    ) -> None:
        self._lane = lane
        self._confirms = confirms
        self._timeout = timeout
        self._on_return = on_return
        self.frame_max = lane.frame_max

    async def to_exchange(self, name: str, message: Message, routing_key: str) -> None:
        """Publish a message.

        Raises:
            NotConfirmedError: No queue takes it, or the broker refused it. With a `timeout`, also when no
                answer came in time; then the message may or may not have been taken.
            SessionLostError: The channel is closed.
        """
        if self._lane.is_closed:
            raise SessionLostError("the connection broke before publishing")
        written = frames.publish(
            self._lane.number,
            message,
            exchange=name,
            routing_key=routing_key,
            frame_max=self._lane.frame_max,
        )
        # In this order and without an await between: the broker counts what it receives, and `expect` what we
        # send. `frames.publish` may raise, and then nothing must be counted.
        word = self._confirms.expect(message)
        self._lane.send(written)
        match await self._heard(word):
            case _Word.NACK:
                raise NotConfirmedError("the broker refused to store the message")
            case _Word.RETURN:
                self._on_return()
                raise NotConfirmedError(
                    f"no queue takes {routing_key!r} from the exchange {name!r}: bind or declare one",
                    unroutable=True,
                )

    async def _heard(self, word: asyncio.Future[_Word]) -> _Word:
        try:
            async with asyncio.timeout(self._timeout):
                return await word
        except TimeoutError as exc:
            raise NotConfirmedError(
                f"the broker did not confirm within {self._timeout:g} s: "
                "it may or may not have taken the message"
            ) from exc

    async def to_queue(self, name: str, message: Message) -> None:
        """Publish a message to one queue. Raises what `to_exchange` raises."""
        await self.to_exchange("", message, name)


class NewestPublisher:
    """Gives the publisher of the newest session to deliveries whose own session is over."""

    def __init__(self) -> None:
        self._publisher: Publisher | None = None
        self._replaced = asyncio.Event()

    def replace(self, publisher: Publisher) -> None:
        """A session is open: those that wait continue with its publisher."""
        self._publisher = publisher
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def after(self, spent: Publisher) -> Publisher:
        """Wait for a session that is newer than that of `spent`, and give its publisher."""
        while self._publisher is None or self._publisher is spent:
            await self._replaced.wait()
        return self._publisher


async def publisher(
    connection: AmqpConnection,
    channel: AbstractChannel,
    *,
    timeout: float | None = None,
    on_return: Callable[[], None] = lambda: None,
) -> Publisher:
    """Make a publisher of an open channel with confirms; see `Publisher` for the arguments."""
    confirms = _Confirms()
    lane = await connection.lane(channel)
    lane.divert(confirms.take)
    lane.channel.closing.add_done_callback(lambda _: confirms.lose())
    return Publisher(lane, confirms, timeout=timeout, on_return=on_return)


@asynccontextmanager
async def open_publisher(connection: AmqpConnection, *, timeout: float) -> AsyncIterator[Publisher]:
    """Open a publisher for a command, on its own channel. It waits `timeout` seconds for each confirm."""
    async with open_channel(connection, confirms=True) as channel:
        yield await publisher(connection, channel, timeout=timeout)
