"""The brokers that the soak breaks: one node, or a cluster of three."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from devkit.run.rabbitmq import PrivateRabbitMQ
from tests.cluster import net
from tests.cluster.balancer import Address, open_balancer
from tests.cluster.cluster import OUTAGE, SIZE, Cluster


class Fault(NamedTuple):
    """A way to break a broker.

    Attributes:
        name: What it is, in the plural.
        happen: Breaks the broker and mends it again; blocks.
    """

    name: str
    happen: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker to break.

    Attributes:
        address: Where workers reach it.
        own_url: Where the upstream does.
        faults: The ways to break it.
        every: Seconds that it works between two faults.
        node: One of its nodes, to be short of memory.
    """

    address: Address
    own_url: str
    faults: Sequence[Fault]
    every: float
    node: PrivateRabbitMQ


@asynccontextmanager
async def one_node() -> AsyncIterator[Broker]:
    """A node that restarts, in good order or after a crash."""
    with PrivateRabbitMQ() as node:

        def restart(end: Callable[[], None]) -> None:
            node.sync_queues()
            end()
            node.start()

        parts = urlsplit(node.url)
        yield Broker(
            address=(parts.hostname or "", parts.port or 0),
            own_url=node.url,
            faults=[Fault("broker restarts", partial(restart, end)) for end in (node.stop, node.kill)],
            every=60,
            node=node,
        )


@asynccontextmanager
async def three_nodes(queue: str, logs: Path) -> AsyncIterator[Broker]:
    """A cluster behind a balancer, for which `tests.cluster.apart` has made namespaces.

    Args:
        queue: The queue whose leader is meant where a fault names one.
        logs: The folder for the logs of its nodes.
    """
    net.build(SIZE)
    cluster = Cluster(logs=logs)
    try:
        await asyncio.to_thread(cluster.form)
        async with open_balancer(cluster.addresses) as balancer, open_balancer(cluster.addresses) as upstream:
            yield Broker(
                address=("127.0.0.1", balancer.port),
                own_url=f"{upstream.url}?heartbeat=4",
                faults=faults_of(cluster, queue),
                every=10,
                node=cluster.nodes[1],
            )
    finally:
        cluster.end()


def faults_of(cluster: Cluster, queue: str) -> list[Fault]:
    """The ways to break a cluster; after each, all its nodes know each other again."""

    def fault(name: str, break_it: Callable[[int], None]) -> Fault:
        def happen() -> None:
            break_it(cluster.leader(queue))
            cluster.mend()

        return Fault(name, happen)

    def follower(leader: int) -> int:
        return cluster.others(leader)[0]

    return [
        fault("kills of a leader", lambda leader: cluster.crash(leader, OUTAGE)),
        fault("kills of a follower", lambda leader: cluster.crash(follower(leader), OUTAGE)),
        fault("partitions of a leader", cluster.part),
        fault("partitions of a follower", lambda leader: cluster.part(follower(leader))),
        fault("rolling restarts", lambda _: cluster.roll(drained=False)),
        fault("drained rolling restarts", lambda _: cluster.roll(drained=True)),
        fault("times two of three nodes down", lambda leader: cluster.rest(cluster.others(leader), OUTAGE)),
    ]
