"""Faults of a cluster of three nodes: every job has its outcome, whole and expected."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from devkit.run.rabbitmq import TlsFiles
from tests.cluster.balancer import open_balancer
from tests.cluster.cluster import OUTAGE, PARTED, name
from tests.cluster.lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WHILE_OUT = 40
"""Outcomes for which a node is out."""
LITTLE_MEMORY, USUAL_MEMORY = "0.0001", "0.4"


async def blocking(do: Callable[..., Any], *arguments: object) -> Any:
    """Do something that blocks."""
    return await asyncio.to_thread(do, *arguments)


async def leader_of_jobs(lab: Lab) -> int:
    """The node that leads the job queue."""
    number: int = await blocking(lab.cluster.leader, lab.site.names.jobs)
    return number


@pytest.mark.parametrize("role", ["the leader of jobs", "the leader of results", "a follower"])
async def test_a_node_is_killed(lab: Lab, role: str) -> None:
    """The two others elect leaders, and jobs go on."""
    leader = await leader_of_jobs(lab)
    roles = {
        "the leader of jobs": leader,
        "the leader of results": await blocking(lab.cluster.leader, lab.site.names.results_queue),
        "a follower": lab.cluster.others(leader)[0],
    }
    victim = lab.cluster.nodes[roles[role]]
    async with lab.fault(f"kill -9 of {role}"):
        await blocking(victim.kill)
        await lab.outcomes(WHILE_OUT)
        await blocking(victim.start)


@pytest.mark.parametrize("drained", [False, True], ids=["stopped", "drained"])
async def test_nodes_restart_one_by_one(lab: Lab, drained: bool) -> None:
    """A rolling upgrade, with and without the steps that RabbitMQ's guide asks for."""
    async with lab.fault(f"rolling restart {'with' if drained else 'without'} `rabbitmq-upgrade drain`"):
        await blocking(partial(lab.cluster.roll, drained=drained))


async def test_two_nodes_stop(lab: Lab) -> None:
    """Nothing can be done without a majority; then everything is."""
    both = lab.cluster.others(await leader_of_jobs(lab))
    async with lab.fault(f"two of three nodes stopped for {OUTAGE:.0f} s"):
        await blocking(lab.cluster.rest, both, OUTAGE)


async def test_two_nodes_freeze_under_load(lab: Lab) -> None:
    """The same where nothing is closed: connections stay open, and nobody answers on them."""
    leader = await leader_of_jobs(lab)
    both = [lab.cluster.nodes[number] for number in (leader, lab.cluster.others(leader)[0])]
    async with lab.fault(f"quorum lost under load: two nodes frozen (SIGSTOP) for {OUTAGE:.0f} s"):
        for node in both:
            node.pause()
        await asyncio.sleep(OUTAGE)
        for node in both:
            node.resume()


@pytest.mark.parametrize("role", ["the leader of jobs", "a follower"])
async def test_a_node_is_parted_from_the_others(lab: Lab, role: str) -> None:
    """Its clients reach it all the while; RabbitMQ 3.10 pauses it, since it is a minority."""
    leader = await leader_of_jobs(lab)
    victim = leader if role == "the leader of jobs" else lab.cluster.others(leader)[0]
    async with lab.fault(f"partition of {role} for {PARTED:.0f} s"):
        await blocking(lab.cluster.part, victim)


async def test_a_frozen_node_behind_a_balancer_that_does_not_notice(lab: Lab) -> None:
    """The balancer gives a third of all new connections to a node that says nothing."""
    victim = lab.cluster.nodes[await leader_of_jobs(lab)]
    lab.balancer.notices = False
    async with lab.fault("leader frozen (SIGSTOP), and the balancer does not notice"):
        victim.pause()
        await lab.outcomes(WHILE_OUT)
        victim.resume()


async def test_a_node_is_short_of_memory(lab: Lab) -> None:
    """The alarm of one node keeps publishers waiting on all of them."""
    victim = lab.cluster.nodes[lab.cluster.others(await leader_of_jobs(lab))[0]]
    async with lab.fault(f"memory alarm on one node for {OUTAGE:.0f} s"):
        await blocking(victim.rabbitmqctl, "set_vm_memory_high_watermark", LITTLE_MEMORY)
        await asyncio.sleep(OUTAGE)
        await blocking(victim.rabbitmqctl, "set_vm_memory_high_watermark", USUAL_MEMORY)


async def test_leaders_move(lab: Lab) -> None:
    """Leaders of the busiest queues move from node to node, and are spread again."""
    queues = (lab.site.names.jobs, lab.site.names.results_queue)
    first = lab.cluster.nodes[1]
    async with lab.fault("leaders moved three times, then `rabbitmq-queues rebalance`"):
        for _ in range(len(lab.cluster.nodes)):
            for queue in queues:
                await blocking(lab.cluster.move_leader, queue)
            await lab.outcomes(WHILE_OUT // 4)
        await blocking(first.run_tool, "rabbitmq-queues", "rebalance", "quorum")


async def test_queues_shrink_and_grow(lab: Lab) -> None:
    """The node that leads the job queue loses its members of all queues, and gets them again."""
    leader = await leader_of_jobs(lab)
    tool = lab.cluster.nodes[lab.cluster.others(leader)[0]].run_tool
    async with lab.fault("`rabbitmq-queues shrink` of the leader's node, then `grow`"):
        await blocking(tool, "rabbitmq-queues", "shrink", name(leader))
        await lab.outcomes(WHILE_OUT)
        await blocking(tool, "rabbitmq-queues", "grow", name(leader), "all")
    assert await blocking(lab.cluster.members, lab.site.names.jobs) == set(lab.cluster.nodes)


async def test_the_only_member_of_a_queue_is_killed(lab: Lab) -> None:
    """As where a queue was declared on one node, and nobody has added members since."""
    leader = await leader_of_jobs(lab)
    async with lab.fault(f"jobs cut to one member, and kill -9 of its node for {OUTAGE:.0f} s"):
        await blocking(lab.cluster.keep_one_member, lab.site.names.jobs, leader)
        await blocking(lab.cluster.crash, leader, OUTAGE)


async def test_a_node_is_killed_over_tls(lab: Lab, tls: TlsFiles) -> None:
    """The same as above, with workers that speak TLS."""
    victim = lab.cluster.nodes[await leader_of_jobs(lab)]
    async with open_balancer(lab.cluster.tls_addresses) as balancer:
        url = balancer.url.replace("amqp:", "amqps:")
        async with lab.fault(
            "kill -9 of the leader of jobs, over TLS",
            AMQP__URL=url,
            AMQP__CA_FILE=str(tls.ca),
        ):
            await blocking(victim.kill)
            await lab.outcomes(WHILE_OUT)
            await blocking(victim.start)


async def test_a_node_of_a_list_of_hosts_is_killed(lab: Lab) -> None:
    """Workers that know all nodes need no balancer."""
    victim = lab.cluster.nodes[await leader_of_jobs(lab)]
    url = f"amqp://guest:guest@{_listed(lab.cluster.addresses)}/"
    async with lab.fault("kill -9 of the leader of jobs, with a list of hosts", AMQP__URL=url):
        await blocking(victim.kill)
        await lab.outcomes(WHILE_OUT)
        await blocking(victim.start)


def _listed(addresses: Sequence[tuple[str, int]]) -> str:
    return ",".join(f"{host}:{port}" for host, port in addresses)
