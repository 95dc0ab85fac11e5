"""A cluster of three RabbitMQ nodes, one in each namespace of the lab's network."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from devkit.run.rabbitmq import BrokerStartError, Place, PrivateRabbitMQ, TlsFiles
from tests.cluster import net
from tests.cluster.balancer import Address

SIZE = 3
TICK = 10
"""Seconds of silence after which a node takes another for gone (net_ticktime; 60 by default)."""
PARTED = TICK * 2.5
"""Seconds of a partition: each side has noticed well before that the other is gone."""
OUTAGE = 20.0
"""Seconds for which nothing can be done."""
_PORT, _PEERS_PORT = 5672, 25672
_PATIENCE = 180.0
_WHOLE_WITHIN = 180.0
_ONLINE_WITHIN = "60"
_POLL = 0.5
_CONFIGURATION = (
    "cluster_partition_handling = pause_minority",
    "loopback_users = none",
)

_log = logging.getLogger(__name__)


@dataclass
class Cluster:
    """A cluster; all its methods block.

    Attributes:
        logs: The folder in which it leaves the logs of its nodes.
        tls: Certificates of its nodes; None has them listen without TLS alone.
        nodes: By number.
        fit: Whether the next test may have it as it is; otherwise it is to be formed anew.
    """

    logs: Path
    tls: TlsFiles | None = None
    nodes: Mapping[int, PrivateRabbitMQ] = field(default_factory=dict)
    fit: bool = False

    @property
    def addresses(self) -> list[Address]:
        """Where clients reach the nodes."""
        return [_address(node.url) for node in self.nodes.values()]

    @property
    def tls_addresses(self) -> list[Address]:
        """Where clients reach them over TLS."""
        return [(_address(node.url)[0], _address(node.tls_url or "")[1]) for node in self.nodes.values()]

    def form(self) -> None:
        """Form it anew, of nodes that know nothing."""
        self.end()
        for number in self.nodes:
            net.join(number)
        self.nodes = {number: self._node(number) for number in range(1, SIZE + 1)}
        self.start(self.nodes)
        # RabbitMQ 4 cannot form one by itself without epmd: its peer discovery starts another Erlang VM.
        for number in self.others(1):
            for words in (["stop_app"], ["join_cluster", name(1)], ["start_app"]):
                self.nodes[number].rabbitmqctl(*words)

    def gather(self) -> None:
        """Wait until all nodes run, serve clients and know each other.

        Raises:
            BrokerStartError: One does not serve.
            RuntimeError: They stay apart: RabbitMQ 3.10 leaves some partitions until a node restarts.
        """
        self.start(self.nodes)
        self.nodes[1].rabbitmqctl("await_online_nodes", str(SIZE), "-t", _ONLINE_WITHIN)

    def mend(self) -> None:
        """Do as `gather`, and as an operator does with nodes that stay apart: restart them."""
        try:
            self.gather()
        except RuntimeError as apart:
            _log.warning("nodes are restarted: %s", apart)
            self.roll(drained=False)
            self.gather()

    def end(self) -> None:
        """End all nodes, and forget all that they know."""
        for number, node in self.nodes.items():
            with suppress(FileNotFoundError):
                shutil.copy(node.log_file, self.logs / f"node{number}.log")
            node.__exit__(None, None, None)

    def start(self, numbers: Iterable[int]) -> None:
        """Start nodes, each beside the others, and wait until all of them serve clients."""
        self._each(_start, numbers)

    def stop(self, numbers: Iterable[int]) -> None:
        """Stop nodes in good order, each beside the others."""
        self._each(PrivateRabbitMQ.stop, numbers)

    def crash(self, number: int, seconds: float) -> None:
        """Kill a node (SIGKILL), and start it some time later."""
        self.nodes[number].kill()
        time.sleep(seconds)
        self.start([number])

    def rest(self, numbers: Iterable[int], seconds: float) -> None:
        """Stop nodes in good order, and start them some time later."""
        numbers = list(numbers)
        self.stop(numbers)
        time.sleep(seconds)
        self.start(numbers)

    def roll(self, *, drained: bool) -> None:
        """Restart one node after the other, with or without the steps that RabbitMQ's guide asks for."""
        for node in self.nodes.values():
            if drained:
                node.run_tool("rabbitmq-upgrade", "await_online_quorum_plus_one")
                node.run_tool("rabbitmq-upgrade", "drain")
            node.stop()
            _start(node)

    def part(self, number: int) -> None:
        """Part a node from the others for a while; its clients reach it meanwhile."""
        net.cut(number)
        time.sleep(PARTED)
        net.join(number)
        self.start([number])

    def leader(self, queue: str) -> int:
        """The node that leads a quorum queue, once all nodes have a member of it that is up."""
        deadline = time.monotonic() + _WHOLE_WITHIN
        while True:
            states = self._states(queue)
            leaders = [node for node, state in states.items() if state == "leader"]
            others = [node for node, state in states.items() if state == "follower"]
            if len(leaders) == 1 and len(others) == SIZE - 1:
                return leaders[0]
            if time.monotonic() > deadline:
                raise TimeoutError(f"the members of {queue} are not all up: {states}")
            time.sleep(_POLL)

    def move_leader(self, queue: str) -> None:
        """Have another node lead a quorum queue. Commands only spread leaders; this is what they call."""
        leader = self.leader(queue)
        new = name(self.others(leader)[0])
        # It answers `migrated` or, on 4.3, `ok`; and otherwise why it did not move.
        self._ask(leader, queue, f"{{_, '{new}'}} = rabbit_quorum_queue:transfer_leadership(Queue, '{new}').")

    def keep_one_member(self, queue: str, number: int) -> None:
        """Cut a quorum queue in use to its member on one node, and wait until that has noted it on disk.

        A member notes every few seconds how far it has applied its log. One of RabbitMQ 3.10 that starts
        reads no changes of members beyond that. After a crash before the next note it waits for the vote of
        a member that is gone, and the queue has no leader anymore. Ra of RabbitMQ 4.0 reads its whole log.
        """
        only = self.nodes[number]
        for other in self.others(number):
            only.run_tool("rabbitmq-queues", "delete_member", queue, name(other))
        deadline, noted = time.monotonic() + _WHOLE_WITHIN, self._noted(number, queue)
        while self._noted(number, queue) == noted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{queue} has noted nothing since {noted}")
            time.sleep(_POLL)
        only.sync_queues()

    def members(self, queue: str) -> set[int]:
        """The nodes that have a member of a quorum queue."""
        return set(self._states(queue))

    def known_to(self, number: int) -> set[int]:
        """The nodes that a node takes for running, itself left out."""
        shown = self.nodes[number].rabbitmqctl("eval", "nodes().")
        return {other for other in self.others(number) if name(other) in shown}

    def others(self, number: int) -> list[int]:
        """The other nodes."""
        return [other for other in self.nodes if other != number]

    def _noted(self, number: int, queue: str) -> str:
        """How far a member has noted to have applied its log."""
        table = "#{names := #{log_meta := Table}} = ra_system:fetch(quorum_queues)"
        member = "ra_directory:uid_of(quorum_queues, element(1, amqqueue:get_pid(Queue)))"
        return self._ask(number, queue, f"{table}, ra_log_meta:fetch(Table, {member}, last_applied).")

    def _ask(self, number: int, queue: str, code: str) -> str:
        """Have a node evaluate Erlang code in which `Queue` is a queue."""
        looked_up = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>))'
        return self.nodes[number].rabbitmqctl("eval", f"{{ok, Queue}} = {looked_up}, {code}")

    def _node(self, number: int) -> PrivateRabbitMQ:
        place = Place(
            name=name(number),
            host=net.address(net.CLIENTS, number),
            peers_host=net.address(net.PEERS, number),
            peers_port=_PEERS_PORT,
            cookie="of-the-lab",
            tick=TICK,
            inside=net.inside(number),
            patience=_PATIENCE,
            spins=False,
        )
        return PrivateRabbitMQ(conf=_CONFIGURATION, tls=self.tls, management=True, port=_PORT, place=place)

    def _each(self, do: Callable[[PrivateRabbitMQ], None], numbers: Iterable[int]) -> None:
        with ThreadPoolExecutor(SIZE) as threads:
            list(threads.map(do, [self.nodes[number] for number in numbers]))

    def _states(self, queue: str) -> dict[int, str]:
        shown = self.nodes[1].run_tool("rabbitmq-queues", "quorum_status", queue, "--formatter=json")
        return {int(row["Node Name"].rpartition(".")[2]): row["Raft State"] for row in json.loads(shown)}


def _start(node: PrivateRabbitMQ) -> None:
    """Start a node, and start it again if it does not get through its start, as an operator does.

    After a partition Erlang's `global` may wait for ever in it (rabbitmq-server, pull request 5442).
    """
    try:
        node.start()
    except BrokerStartError as stuck:
        _log.warning("a node is started again: %s", stuck)
        node.start()


def name(number: int) -> str:
    """The Erlang name of a node."""
    return f"rabbit@{net.address(net.PEERS, number)}"


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0
