"""Messages that are hard to take: each ends in an outcome all the same, and costs no other job anything."""

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from tests.installation import Site, bill
from tests.malformed import MALFORMED
from tests.raw_amqp import put_raw
from tests.shapes import SHAPES
from worker.broker.properties import EXPIRATION, MESSAGE_ID, PRIORITY, Properties, written
from worker.errors import BrokerError

LARGE_BODY = b"x" * (15 * 1024**2)
_DAY = "20260215"
"""The date in the names of their files, which no other job has."""
_PRIORITIES = (None, *range(10), 255)


class Message(NamedTuple):
    """A message.

    Attributes:
        job_id: The job that its outcome will name.
        properties: Its property list as it stands on the wire.
        body: Its body.
    """

    job_id: str
    properties: bytes
    body: bytes


_PROPERTIES = (
    # A message id of their own would hide which job their outcome is of.
    *(raw for raw in SHAPES.values() if MESSAGE_ID not in Properties(raw).values()),
    *(written({} if level is None else {PRIORITY: bytes((level,))}) for level in _PRIORITIES),
    # Runs out in the queue, unless a worker is quicker.
    written({EXPIRATION: b"\x011"}),
)
_BODIES = (*(malformed.body for malformed in MALFORMED.values()), LARGE_BODY)


def messages(site: Site, accounts: Sequence[str]) -> Iterator[Message]:
    """Give one after another without end, each kind once in a round of random order."""
    numbers = count(1)
    while True:
        kinds = [*(("properties", raw) for raw in _PROPERTIES), *(("body", body) for body in _BODIES)]
        random.shuffle(kinds)
        for part, kind in kinds:
            number = next(numbers)
            if part == "body":
                job_id = f"hostile-{number}"
                yield Message(job_id, written({MESSAGE_ID: _short(job_id)}), kind)
            else:
                account, file = random.choice(accounts), bill(number, day=_DAY)
                yield Message(f"{account}/{file}", kind, site.body(file, account))


A_ROUND = len(_PROPERTIES) + len(_BODIES)
"""Messages after which each kind was there."""


async def publish(site: Site, message: Message) -> None:
    """Publish, and expect an outcome once RabbitMQ has confirmed it; otherwise there may be one."""
    site.ledger.intend(message.job_id)
    try:
        taken = await put_raw(site.own_url, site.names.jobs, message.properties, message.body)
    except BrokerError:
        # It is away just now.
        return
    if taken:
        site.ledger.publish(message.job_id)


def _short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()
