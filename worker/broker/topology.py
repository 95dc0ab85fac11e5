"""The queues and exchanges that the contract names, and how they are connected.

    default exchange ──▶ ccfs.jobs ──(delivery limit)──▶ ccfs.jobs.dlx ──▶ ccfs.jobs.dropped.v2
                            ▲
                            └──(TTL)── ccfs.jobs.retry.10s, ccfs.jobs.retry.60s, …, ccfs.jobs.held.300s

    default exchange ──▶ ccfs.jobs.retry.…, ccfs.jobs.held.300s, ccfs.dead, ccfs.failed

    exchange ccfs.results ──#──▶ queue ccfs.results

Everything is durable and every queue a quorum queue (RabbitMQ 3.10 and later: message TTL and
at-least-once dead lettering on quorum queues).

The first release had `ccfs.jobs.dropped` instead of `ccfs.jobs.dropped.v2`. It had no delivery limit, and
RabbitMQ 4 gives such a queue 20. The arguments of a queue cannot be changed: hence the new queue. It has the
old routing key, which is an argument of `ccfs.jobs`. Messages in the old queue are still consumed.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ConnectionInternalError
from pamqp.common import FieldValue

from worker.broker.connection import open_channel
from worker.core.retry import tier_name
from worker.errors import BrokerError

KEPT_FOR_OTHERS = 1_000_000_000
"""Delivery limit of queues whose messages the broker must never give up on. RabbitMQ 4 gives a queue without
one a limit of 20, and drops the message after that. A consumer that reads and requeues would lose it, and a
job whose outcome could not be published in 20 sessions would have none."""

FROM_THE_WORKER = "a worker makes it when it starts; see `ccfs-worker check`"
"""What to do when something is missing, for commands that only use it."""

_LEADER_WAIT = 0.25
"""Seconds. When the leader of a quorum queue says nothing for that time, RabbitMQ answers a passive declare
as if the queue had no messages and no consumers (`rabbit_quorum_queue:stat`; seen on 3.10 and 4.3). It
answers the same, but quickly, when it knows that the leader's node is down."""

_Arguments = dict[str, FieldValue]
_QUORUM: _Arguments = {"x-queue-type": "quorum"}

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of the contract's queues and exchanges in this installation.

    Attributes:
        jobs: The queue of jobs; the tiers and the queue of dropped messages are named after it.
        results: The topic exchange of outcomes.
        results_queue: The queue that catches all outcomes; None declares none.
        dead: The queue of parked messages.
        failed: The queue that keeps failed jobs for operators; None declares none.
        held_tier: Seconds that jobs wait at most for their account's key; None holds none.
    """

    jobs: str = "ccfs.jobs"
    results: str = "ccfs.results"
    results_queue: str | None = "ccfs.results"
    dead: str = "ccfs.dead"
    failed: str | None = "ccfs.failed"
    held_tier: float | None = 300.0

    @property
    def dead_letter_exchange(self) -> str:
        """The exchange to which the broker sends job messages that it gives up on."""
        return f"{self.jobs}.dlx"

    @property
    def dropped(self) -> str:
        """The queue bound to that exchange: the worker turns each message in it into an outcome."""
        return f"{self.old_dropped}.v2"

    @property
    def old_dropped(self) -> str:
        """The same queue in the first release; its name is still the routing key of what is dropped."""
        return f"{self.jobs}.dropped"

    @property
    def held(self) -> str:
        """The queue in which jobs wait for their account's key; its name holds its TTL, as a tier's does."""
        return f"{self.jobs}.held.{tier_name(self.held_tier or 0)}"

    def tier(self, seconds: float) -> str:
        """The queue in which jobs wait for that time.

        Its name contains its TTL, since a queue cannot be declared again with another argument.
        """
        return f"{self.jobs}.retry.{tier_name(seconds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What must exist in the broker before the worker can work.

    Attributes:
        names: What queues and exchanges are called.
        tiers: Seconds of each wait between attempts.
        delivery_limit: Deliveries after which the broker gives up on a job message.
        failed_keep: Failed jobs that are kept; above, the oldest give way.
    """

    names: Names
    tiers: tuple[float, ...]
    delivery_limit: int
    failed_keep: int = 100_000

    @property
    def roles(self) -> Mapping[str, str]:
        """By queue, what is in it, in a word of the contract."""
        names = self.names
        roles = {names.jobs: "jobs", names.dead: "dead", names.dropped: "dropped"}
        roles |= {names.tier(seconds): "retry" for seconds in self.tiers}
        optional = {names.results_queue: "results", names.failed: "failed"}
        if names.held_tier is not None:
            optional[names.held] = "held"
        return roles | {name: role for name, role in optional.items() if name is not None}

    def queues(self) -> Mapping[str, _Arguments]:
        """Every queue with its arguments."""
        names = self.names
        queues: dict[str, _Arguments] = {
            names.dropped: _QUORUM | _dead_letters_to("", names.dead) | {"x-delivery-limit": KEPT_FOR_OTHERS},
            names.dead: _QUORUM | {"x-delivery-limit": KEPT_FOR_OTHERS},
            names.jobs: _QUORUM
            | _dead_letters_to(names.dead_letter_exchange, names.old_dropped)
            | {"x-delivery-limit": self.delivery_limit},
        }
        waits = {names.tier(seconds): seconds for seconds in self.tiers}
        if names.held_tier is not None:
            waits[names.held] = names.held_tier
        for name, seconds in waits.items():
            ttl: _Arguments = {"x-message-ttl": round(seconds * 1000)}
            queues[name] = _QUORUM | _dead_letters_to("", names.jobs) | ttl
        if names.results_queue is not None:
            queues[names.results_queue] = _QUORUM | {"x-delivery-limit": KEPT_FOR_OTHERS}
        if names.failed is not None:
            queues[names.failed] = _QUORUM | {
                "x-delivery-limit": KEPT_FOR_OTHERS,
                "x-max-length": self.failed_keep,
                "x-overflow": "drop-head",
            }
        return queues

    def bindings(self, queue: str) -> tuple[tuple[str, str], ...]:
        """The exchanges that a queue is bound to, each with the routing key."""
        names = self.names
        if queue == names.dropped:
            return ((names.dead_letter_exchange, names.old_dropped),)
        return ((names.results, "#"),) if queue == names.results_queue else ()


def _dead_letters_to(exchange: str, routing_key: str) -> _Arguments:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        # Without it a dead letter is lost when its target is unavailable at that moment. It takes effect only
        # with the overflow below (RabbitMQ "Quorum Queues").
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


class QueueState(NamedTuple):
    """What RabbitMQ says of a queue.

    Attributes:
        messages: How many lie ready.
        consumers: How many it has.
        unknown: Why neither number means anything, as one line; empty when they do.
    """

    messages: int
    consumers: int
    unknown: str = ""


async def declare(
    connection: AbstractConnection, topology: Topology, *, passive: bool, timeout: float
) -> Topology:
    """Declare everything. What exists with the same arguments stays as it is.

    Jobs need all of it but the queue of failed jobs. That one is used as it is when it has other arguments,
    and left out when it cannot be had.

    Args:
        connection: An open connection; a channel of its own is used, since a refusal closes it.
        topology: What to declare.
        passive: Only check that it exists, for logins that may not declare.
        timeout: Seconds for each step.

    Returns:
        What is there: `topology`, without the queue of failed jobs when that is left out.

    Raises:
        BrokerError: Something is missing, exists with other arguments, or is not permitted.
    """
    names = topology.names
    if not await _declare_failed(connection, topology, passive=passive, timeout=timeout):
        topology = replace(topology, names=replace(names, failed=None))
    async with open_channel(connection) as channel:
        declaring = _Declaring(channel, passive, timeout)
        await declaring.exchange(names.results, ExchangeType.TOPIC)
        await declaring.exchange(names.dead_letter_exchange, ExchangeType.DIRECT)
        for name in topology.queues():
            if name != names.failed:
                await declaring.queue(name, topology)
    # Last: while both queues are bound, nothing that the broker drops can be lost.
    if not passive and await look(connection, names.old_dropped, timeout=timeout):
        async with open_channel(connection) as channel:
            with explained("queue", names.old_dropped):
                old = await channel.get_queue(names.old_dropped, ensure=False)
                await old.unbind(names.dead_letter_exchange, names.old_dropped, timeout=timeout)
    return topology


@dataclass(frozen=True, slots=True)
class _Declaring:
    """Declares on a channel, or checks what is there.

    Attributes:
        channel: An open channel.
        passive: Only check.
        timeout: Seconds for each step.
    """

    channel: AbstractChannel
    passive: bool
    timeout: float

    async def exchange(self, name: str, kind: ExchangeType) -> None:
        """Declare an exchange. Raises BrokerError."""
        with explained("exchange", name):
            await self.channel.declare_exchange(
                name, kind, durable=True, passive=self.passive, timeout=self.timeout
            )

    async def queue(self, name: str, topology: Topology) -> None:
        """Declare a queue, and bind it. Raises BrokerError."""
        with explained("queue", name):
            queue = await self.channel.declare_queue(
                name,
                durable=True,
                arguments=topology.queues()[name],
                passive=self.passive,
                timeout=self.timeout,
            )
            for exchange, key in () if self.passive else topology.bindings(name):
                await queue.bind(exchange, key, timeout=self.timeout)


async def _declare_failed(
    connection: AbstractConnection, topology: Topology, *, passive: bool, timeout: float
) -> bool:
    """Declare the queue of failed jobs; False when there is none to use."""
    name = topology.names.failed
    if name is None:
        return False
    try:
        async with open_channel(connection) as channel:
            await _Declaring(channel, passive, timeout).queue(name, topology)
    except BrokerError as exc:
        if isinstance(exc.__cause__, (TimeoutError, ConnectionInternalError)):
            # To go on would only wait as long for the next queue.
            raise
        # A number that was changed, or a login of an earlier release: no reason to take no jobs.
        is_there = False
        with suppress(BrokerError):
            is_there = await look(connection, name, timeout=timeout) is not None
        log.warning("broker.failed_queue", reason=str(exc), used=is_there)
        return is_there
    return True


async def look(connection: AbstractConnection, queue: str, *, timeout: float) -> QueueState | None:
    """Ask how many messages and consumers a queue has; None when there is no such queue.

    It uses its own channel, which the broker closes when there is no such queue.

    Raises:
        BrokerError: The login may not use the queue.
    """
    async with open_channel(connection) as channel:
        with explained("queue", queue):
            try:
                return await ask(channel, queue, timeout=timeout)
            except ChannelNotFoundEntity:
                return None


async def count(channel: AbstractChannel, queue: str, *, timeout: float) -> int:
    """Count the messages that lie ready in a queue.

    Raises:
        BrokerError: There is no such queue, or its leader does not answer.
    """
    with explained("queue", queue, if_missing=FROM_THE_WORKER):
        state = await ask(channel, queue, timeout=timeout)
    if state.unknown:
        raise BrokerError(f"the messages of the queue {queue} cannot be counted: {state.unknown}")
    return state.messages


async def ask(channel: AbstractChannel, queue: str, *, timeout: float, tries: int = 2) -> QueueState:
    """Ask how many messages lie ready in a queue, and how many consumers it has.

    Args:
        channel: An open channel.
        queue: What it is called.
        timeout: Seconds for each answer.
        tries: How many slow answers that name no message and no consumer make the numbers unknown.

    Raises:
        ChannelClosed: There is no such queue (ChannelNotFoundEntity), or the login may not use it. The
            broker has closed the channel.
    """
    clock = asyncio.get_running_loop().time
    for _ in range(tries):
        asked = clock()
        found = (await channel.declare_queue(queue, passive=True, timeout=timeout)).declaration_result
        state = QueueState(found.message_count or 0, found.consumer_count or 0)
        if any(state[:2]) or clock() - asked < _LEADER_WAIT:
            return state
    return QueueState(
        0,
        0,
        f"its leader does not answer within {_LEADER_WAIT:g} s, and RabbitMQ then says 0: see "
        f"`rabbitmq-queues quorum_status {queue}`",
    )


@contextmanager
def explained(
    kind: str, name: str, *, if_missing: str = "make it, or set WORKER_AMQP__DECLARE=true"
) -> Iterator[None]:
    """Turn a refusal to declare, check or use a queue or exchange into a BrokerError that says what to do."""
    try:
        with led(kind, name):
            yield
    except ChannelNotFoundEntity as exc:
        raise BrokerError(f"the {kind} {name} does not exist: {if_missing}") from exc
    except ChannelPreconditionFailed as exc:
        raise BrokerError(
            f"the {kind} {name} exists with other arguments: replace it (docs/runbook.md, Other arguments), "
            f"or choose another name ({exc})"
        ) from exc
    except ChannelClosed as exc:
        raise BrokerError(f"the {kind} {name} cannot be used: check the login's permissions ({exc})") from exc


@contextmanager
def led(kind: str, name: str) -> Iterator[None]:
    """Name the queue or exchange that RabbitMQ could not use, and what may be missing, in a BrokerError.

    While a queue has no leader, RabbitMQ closes a connection that consumes from it (INTERNAL_ERROR), and
    answers late, or never, one that declares it (seen on 3.10 and 4.3).
    """
    try:
        yield
    except (TimeoutError, ConnectionInternalError) as exc:
        hint = (
            f"a majority of its members must run: see `rabbitmq-queues quorum_status {name}`"
            if kind == "queue"
            else "see RabbitMQ's log, and which of its nodes run"
        )
        what = "did not answer in time" if isinstance(exc, TimeoutError) else "failed (INTERNAL_ERROR)"
        raise BrokerError(f"RabbitMQ {what} for the {kind} {name}: {hint}") from exc
