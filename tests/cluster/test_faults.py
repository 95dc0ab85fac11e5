"""Faults of a cluster of three nodes: every job has its outcome, whole and expected."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WHILE_OUT = 40
"""Outcomes for which a node is out."""


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
