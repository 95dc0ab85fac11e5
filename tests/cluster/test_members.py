"""What `ccfs-worker check` and the metrics say of queues while a node of the cluster is down."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devkit.run.worker_process import WorkerProcess
from tests.cluster.cluster import SIZE, name
from tests.cluster.lab import BOUND, Lab
from tests.commands import CCFS_WORKER, command
from worker.broker.management import ManagementApi

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


async def test_a_member_that_is_down_is_told(lab: Lab) -> None:
    """`check` finds no fault in it, since a majority runs."""
    jobs = lab.site.names.jobs
    leader = await asyncio.to_thread(lab.cluster.leader, jobs)
    asked, victim = lab.cluster.others(leader)
    url = lab.cluster.nodes[asked].management_url
    assert url
    await asyncio.to_thread(lab.cluster.nodes[victim].kill)
    await told(ManagementApi(url=url, vhost="/", tls=None, timeout=BOUND), jobs, name(victim))
    checked = await asyncio.to_thread(
        command,
        CCFS_WORKER,
        "check",
        "--only",
        "members",
        settings=lab.site.settings(AMQP__MANAGEMENT_URL=url, AMQP__DELIVERY_LIMIT="20"),
        cwd=lab.site.folder,
    )
    with lab.working(AMQP__MANAGEMENT_URL=url) as (worker, _):
        await shown(worker, jobs, {"declared": SIZE, "online": SIZE - 1})

    assert checked.returncode == 0, checked.stdout
    (line,) = (line for line in checked.stdout.splitlines() if f"members of {jobs}:" in line)
    assert line.startswith(f"✓ members of {jobs}: quorum, leader {name(leader)}, ")
    assert line.endswith(f"not online: {name(victim)}")
    await asyncio.to_thread(lab.cluster.nodes[victim].start)
    lab.cluster.fit = True


async def told(api: ManagementApi, queue: str, node: str) -> None:
    """Wait until RabbitMQ itself says that a member is down, which takes it some seconds."""
    while True:
        views = await api.queues([queue])
        if node in views[queue].offline:
            return
        await asyncio.sleep(0.1)


async def shown(worker: WorkerProcess, queue: str, members: dict[str, float]) -> None:
    """Wait until the worker shows these members of a queue, by state.

    It asks once a minute. RabbitMQ 4.3 was seen to count the member as online once more meanwhile.
    """
    while True:
        _, text = await worker.get("/metrics")
        now = {
            sample.labels["state"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "ccfs_worker_queue_members" and sample.labels["queue"] == queue
        }
        if now == members:
            return
        await asyncio.sleep(0.1)
