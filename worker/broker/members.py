"""Judges what the management API says of the worker's queues: their members, arguments and policies.

How RabbitMQ puts a policy and an argument together is in its `rabbit_quorum_queue.erl`: the lower number
counts, the policy's `overflow` wins, and so does an argument for dead letters. Hence a policy for dead
letters harms no queue whose dead letters the worker needs.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from worker.broker.management import ManagementApi, QueueView
from worker.broker.topology import Topology
from worker.errors import BrokerError, one_line
from worker.finding import Finding, fine, wrong

_GROUP = 3
"""Members that RabbitMQ gives a quorum queue when it is declared: with fewer, no node may fail."""
_LOWERING = ("message-ttl", "max-length", "max-length-bytes", "expires", "delivery-limit")
"""What discards messages, or the queue, the earlier the lower it is."""
_SHORTENING = frozenset({"max-length", "max-length-bytes"})
"""What may be lower on the queue of failed jobs, where the oldest give way."""
_HARMFUL = (*(f"x-{rule}" for rule in _LOWERING), "x-single-active-consumer")
"""Arguments that the worker gives on purpose or not at all."""


async def inspect_members(api: ManagementApi, topology: Topology) -> list[Finding]:
    """Say of each queue which members it has and which run, and what in its settings harms."""
    try:
        views = await api.queues(topology.queues())
        nodes = await api.nodes()
    except BrokerError as exc:
        return [wrong("members of queues", str(exc), "")]
    return [
        finding for name in topology.queues() for finding in judge(topology, name, views.get(name), nodes)
    ]


def judge(topology: Topology, name: str, view: QueueView | None, nodes: int | None) -> Iterator[Finding]:
    """Judge one queue.

    Args:
        topology: What the worker declares.
        name: The queue.
        view: What the management API says of it; None when it says nothing.
        nodes: How many nodes the cluster has; None when that is not known.
    """
    subject = f"members of {name}"
    if view is None:
        yield fine(subject, "not shown: the queue does not exist yet, or this login may not see it")
        return
    yield _members(subject, view, nodes)
    harm = [*_other_arguments(topology, name, view.arguments), *_harmful_policies(topology, name, view)]
    if harm:
        yield wrong(
            f"settings of {name}",
            one_line("; ".join(harm)),
            "let policies leave this queue out; for other arguments, remove it once it is empty and let the "
            "worker declare it anew",
        )


def _members(subject: str, view: QueueView, nodes: int | None) -> Finding:
    if view.type != "quorum":
        remedy = "remove it once it is empty and let the worker declare it anew, as a quorum queue"
        return wrong(subject, one_line(f"none: its type is {view.type}"), remedy)
    offline = view.offline
    runs = f"not online: {', '.join(offline)}" if offline else "all online"
    members = ", ".join(sorted(view.members))
    found = one_line(f"quorum, leader {view.leader}, members {members}, {runs}{_policies(view)}")
    if 2 * len(offline) >= len(view.members):
        return wrong(subject, found, "start its nodes: a majority of its members must run")
    if view.leader is None or view.leader in offline:
        return wrong(subject, found, f"see `rabbitmq-queues quorum_status {view.name}` for its leader")
    if nodes is not None and len(view.members) < min(_GROUP, nodes):
        grow = f"rabbitmq-queues grow NODE all --queue-pattern '^{view.name}$'"
        return wrong(subject, f"{found}; the cluster has {nodes} nodes", f"add members: `{grow}`")
    return fine(subject, found)


def _policies(view: QueueView) -> str:
    """Name those in effect, harmful or not."""
    named = (("policy", view.policy), ("operator policy", view.operator_policy))
    return "".join(f", {kind} {name}" for kind, name in named if name)


def _other_arguments(topology: Topology, name: str, found: Mapping[str, Any]) -> Iterator[str]:
    wanted = topology.queues()[name]
    for argument in (*wanted, *(harmful for harmful in _HARMFUL if harmful not in wanted)):
        is_free = name == topology.names.failed and argument.removeprefix("x-") in _SHORTENING
        if found.get(argument) != wanted.get(argument) and not is_free:
            yield f"{argument} is {_shown(found.get(argument))} instead of {_shown(wanted.get(argument))}"


def _harmful_policies(topology: Topology, name: str, view: QueueView) -> Iterator[str]:
    wanted = topology.queues()[name]
    for rule, value in view.effective_policy_definition.items():
        given = wanted.get(f"x-{rule}")
        is_free = name == topology.names.failed and rule in _SHORTENING
        is_other_overflow = rule == "overflow" and given is not None and value != given
        if is_other_overflow or (_lowers(rule, value, given) and not is_free):
            yield f"{rule} is {_shown(value)} by policy"


def _lowers(rule: str, value: object, given: object) -> bool:
    # A negative delivery limit is none: ours then counts (RabbitMQ 4).
    if rule not in _LOWERING or not isinstance(value, int | float) or value < 0:
        return False
    if not isinstance(given, int):
        # Nobody consumes from a queue without a delivery limit: nothing is delivered there.
        return rule != "delivery-limit"
    return value < given


def _shown(value: object) -> str:
    return "unset" if value is None else json.dumps(value)
