"""Publishes so that a message either lies in a queue for good or the caller knows that it does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from itertools import takewhile

from aio_pika.abc import AbstractChannel

from worker.broker import frames
from worker.broker.connection import Connection, open_channel
from worker.broker.frames import Message
from worker.broker.messages import publish_id
from worker.broker.wire import Lane
from worker.errors import NotConfirmedError, SessionLostError


class _Word(Enum):
    """What the broker says of a message."""

    ACK = auto()
    NACK = auto()
    RETURN = auto()


class _Confirms:
    """What was published on a channel and not confirmed yet.

    The broker counts from 1, and says `basic.return` of a message before it confirms it.
    """

    def __init__(self) -> None:
        self._last_tag = 0
        self._waiting: dict[int, asyncio.Future[_Word]] = {}
        self._returnable: dict[int | None, asyncio.Future[_Word]] = {}
        self._returned = frames.Assembly(frames.RETURN, self._return)

    def expect(self, message: Message) -> asyncio.Future[_Word]:
        """Give the future of the broker's word on the message, which has to be the next that is published."""
        self._last_tag += 1
        number = publish_id(message.properties)
        word: asyncio.Future[_Word] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_tag] = self._returnable[number] = word
        word.add_done_callback(lambda _: self._returnable.pop(number, None))
        return word

    def take(self, kind: int, payload: bytes) -> bool:
        """Take in a frame of the channel; see `Lane.divert`."""
        if kind == frames.METHOD:
            if payload.startswith(frames.ACK):
                self._settle(frames.read_confirm(payload), _Word.ACK)
                return True
            if payload.startswith(frames.NACK):
                self._settle(frames.read_confirm(payload), _Word.NACK)
                return True
        return self._returned.take(kind, payload)

    def lose(self) -> None:
        """Nothing more will be confirmed."""
        waiting, self._waiting = self._waiting, {}
        for word in waiting.values():
            if not word.done():
                word.set_exception(SessionLostError("the connection broke while publishing"))

    def _settle(self, confirm: frames.Confirm, word: _Word) -> None:
        if not confirm.multiple:
            self._say(confirm.tag, word)
            return
        # Tags rise in the order of publishing, as the dictionary keeps it.
        for tag in list(takewhile(lambda tag: tag <= confirm.tag, self._waiting)):
            self._say(tag, word)

    def _say(self, tag: int, word: _Word) -> None:
        waiting = self._waiting.pop(tag, None)
        # Whoever waited may have gone, or have heard that the message came back.
        if waiting is not None and not waiting.done():
            waiting.set_result(word)

    def _return(self, _: bytes, message: Message) -> None:
        waiting = self._returnable.get(publish_id(message.properties))
        if waiting is not None and not waiting.done():
            waiting.set_result(_Word.RETURN)


class Publisher:
    """Publishes mandatory and with confirms (RabbitMQ "Consumer Acknowledgements and Publisher Confirms").

    Made by `publisher`. A publish ends by the broker's word on it (ack, nack or return), or with the channel:
    a confirm that is late still counts, and a message published again meanwhile would be a second one.

    Args:
        lane: The way to a channel with confirms, on which nobody else publishes.
        confirms: Takes what the broker says on it.
        timeout: Seconds to wait for each confirm, for commands, which have to end; None waits for good.
        on_return: Is called when no queue takes a message.
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
            NotConfirmedError: No queue takes it, or the broker refused it. With a `timeout`, also when
                there was no word in time; then the message may or may not have been taken.
            SessionLostError: The channel is gone.
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
        """Publish a copy of a job into a queue; raises as `to_exchange` does."""
        await self.to_exchange("", message, name)


class NewestPublisher:
    """The publisher of the newest session, for what has to be published although its own session is over."""

    def __init__(self) -> None:
        self._publisher: Publisher | None = None
        self._replaced = asyncio.Event()

    def replace(self, publisher: Publisher) -> None:
        """A session is open: what waits goes on with its publisher."""
        self._publisher = publisher
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def after(self, spent: Publisher) -> Publisher:
        """Give the publisher of a session later than that of `spent`, once there is one."""
        while self._publisher is None or self._publisher is spent:
            await self._replaced.wait()
        return self._publisher


async def publisher(
    connection: Connection,
    channel: AbstractChannel,
    *,
    timeout: float | None = None,
    on_return: Callable[[], None] = lambda: None,
) -> Publisher:
    """Publish on an open channel with confirms; see `Publisher` for the rest."""
    confirms = _Confirms()
    lane = await connection.lane(channel)
    lane.divert(confirms.take)
    lane.channel.closing.add_done_callback(lambda _: confirms.lose())
    return Publisher(lane, confirms, timeout=timeout, on_return=on_return)


@asynccontextmanager
async def open_publisher(connection: Connection, *, timeout: float) -> AsyncIterator[Publisher]:
    """Open a publisher for a command, on a channel of its own; `timeout` are the seconds for each confirm."""
    async with open_channel(connection, confirms=True) as channel:
        yield await publisher(connection, channel, timeout=timeout)
