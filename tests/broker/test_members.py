"""The members and policies of queues by the management API: of a real node, and of servers that mean harm."""

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import pytest
import trustme
from yarl import URL

from devkit.run.ports import free_ports
from devkit.run.rabbitmq import PrivateRabbitMQ
from tests.management import Serve, answering, cluster, serving, silence
from worker import wiring
from worker.broker import Names, Topology
from worker.broker.management import ManagementApi, QueueView
from worker.broker.members import inspect_members, judge
from worker.broker.topology import declare
from worker.errors import BrokerError
from worker.finding import Finding
from worker.settings import AmqpGroup

TOPOLOGY = Topology(names=Names(), tiers=(10.0,), delivery_limit=20)
JOBS, RESULTS, TIER = "ccfs.jobs", "ccfs.results", "ccfs.jobs.retry.10s"
A, B, C = "rabbit@a", "rabbit@b", "rabbit@c"

Managed = tuple[PrivateRabbitMQ, Path, int]


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """A node with its management API; who vouches for its certificate; and its port for HTTPS."""
    folder, authority = tmp_path_factory.mktemp("management"), trustme.CA()
    server, ca = authority.issue_cert("localhost"), folder / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (port,) = free_ports(1)
    conf = [
        "management.ssl.ip = 127.0.0.1",
        f"management.ssl.port = {port}",
        *(f"management.ssl.{file} = {folder / 'server.pem'}" for file in ("certfile", "keyfile")),
        "collect_statistics_interval = 200",
    ]
    with PrivateRabbitMQ(management=True, conf=conf) as node:
        # Else a queue tells of its policy five seconds later.
        node.rabbitmqctl("eval", "application:set_env(rabbit, quorum_tick_interval, 200).")
        asyncio.run(declare_all(node.url))
        yield node, ca, port


async def declare_all(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        await declare(connection, TOPOLOGY, passive=False, timeout=30)


def api_of(management_url: str, **amqp: Any) -> ManagementApi:
    api = wiring.management_api(AmqpGroup(management_url=management_url, **amqp))
    assert api
    return api


def url_of(node: PrivateRabbitMQ, login: str = "guest:guest") -> str:
    assert node.management_url
    return node.management_url.replace("guest:guest", login)


async def change(node: PrivateRabbitMQ, method: str, path: str, **body: object) -> None:
    """Change the node as an administrator does."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, URL(url_of(node) + f"api/{path}", encoded=True), json=body) as response,
    ):
        assert response.ok, await response.text()


async def inspected(api: ManagementApi) -> dict[str, Finding]:
    return {finding.name: finding for finding in await inspect_members(api, TOPOLOGY)}


async def test_each_queue_of_a_real_node_is_told(managed: Managed) -> None:
    found = await inspected(api_of(url_of(managed[0])))

    assert found.keys() == {f"members of {name}" for name in TOPOLOGY.queues()}
    assert {finding.ok for finding in found.values()} == {True}
    node = "ccfs@localhost"
    assert found[f"members of {JOBS}"].detail == f"quorum, leader {node}, members {node}, all online"


async def test_policies_that_harm_are_told_and_no_others(managed: Managed) -> None:
    """As RabbitMQ gives them, a while after they were set."""
    node, api = managed[0], api_of(url_of(managed[0]))
    rules = {
        "max-length": 100_000,
        "overflow": "drop-head",
        "dead-letter-exchange": "x",
        "delivery-limit": 50,
    }
    of_all = {"pattern": ".*", "apply-to": "queues"}
    await change(node, "PUT", "policies/%2F/all", **of_all, definition=rules)
    hour = {"message-ttl": 3_600_000}
    await change(node, "PUT", "operator-policies/%2F/hour", **of_all, definition=hour)
    found = await when_all_have(api, "operator policy hour")
    await change(node, "DELETE", "policies/%2F/all")
    await change(node, "DELETE", "operator-policies/%2F/hour")
    await when_all_have(api, "all online")

    assert not found[f"settings of {JOBS}"].ok
    assert {*found[f"settings of {JOBS}"].detail.split("; ")} == {
        "max-length is 100000 by policy",
        "message-ttl is 3600000 by policy",
        'overflow is "drop-head" by policy',
    }
    assert "delivery-limit is 50" in found[f"settings of {RESULTS}"].detail
    assert "overflow" not in found[f"settings of {RESULTS}"].detail
    # A tier's own wait is shorter, and nobody consumes from it.
    assert "message-ttl" not in found[f"settings of {TIER}"].detail
    assert "delivery-limit" not in found[f"settings of {TIER}"].detail
    assert found[f"settings of {TOPOLOGY.names.failed}"].detail.count("max-length") == 0
    assert ", policy all, operator policy hour" in found[f"members of {JOBS}"].detail


async def when_all_have(api: ManagementApi, end: str) -> dict[str, Finding]:
    """What is found once the details of all members end so."""
    while True:
        found = await inspected(api)
        if all(found[f"members of {name}"].detail.endswith(end) for name in TOPOLOGY.queues()):
            return found
        await asyncio.sleep(0.05)


async def test_a_login_with_fewer_rights_sees_as_much(managed: Managed) -> None:
    node, password = managed[0], "p%2F%C3%A4ss"
    await change(node, "PUT", "users/looker", password="p/äss", tags="management")
    await change(node, "PUT", "permissions/%2F/looker", configure="^$", write="^$", read="^ccfs")
    api = api_of(url_of(node, f"looker:{password}"))

    assert (await api.nodes(), {*await api.queues(TOPOLOGY.queues())}) == (None, {*TOPOLOGY.queues()})


@pytest.mark.parametrize("login", ["guest:S3cret", "nobody:S3cret"])
async def test_a_login_that_is_refused_is_named_once(managed: Managed, login: str) -> None:
    (finding,) = (await inspected(api_of(url_of(managed[0], login)))).values()

    assert not finding.ok
    assert f"refuses the login of {login.partition(':')[0]!r}" in finding.detail
    assert "S3cret" not in finding.detail


async def test_its_certificate_is_verified_as_the_brokers(managed: Managed) -> None:
    _, ca, port = managed
    url = f"https://guest:guest@localhost:{port}/"

    assert JOBS in await api_of(url, ca_file=ca).queues([JOBS])
    with pytest.raises(BrokerError, match="CERTIFICATE_VERIFY_FAILED"):
        await api_of(url).queues([JOBS])


async def test_another_virtual_host_is_asked_for(managed: Managed) -> None:
    await change(managed[0], "PUT", "vhosts/a%2Fb")

    assert await api_of(url_of(managed[0]), url="amqp://u:p@h1,h2/a%2Fb").queues([JOBS]) == {}
    with pytest.raises(BrokerError, match="does not see the virtual host"):
        await api_of(url_of(managed[0]), url="amqp://u:p@h1/nope").queues([JOBS])


async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"items": [')
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def dripping(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


HOSTILE: dict[str, tuple[Serve, str]] = {
    "silent": (silence, "did not answer within 0.5 s"),
    "dripping": (dripping, "did not answer within 0.5 s"),
    "endless": (endless, "answers more than 1048576 bytes"),
    "no JSON": (answering(b"<html>"), "not as RabbitMQ does"),
    "deep JSON": (answering(b'{"items": ' + b"[" * 100_000), "not as RabbitMQ does"),
    "long number": (answering(b'{"items": 1' + b"0" * 10_000 + b"}"), "not as RabbitMQ does"),
    "other JSON": (answering(b'{"items": [{"name": 7}]}'), "not as RabbitMQ does"),
    "packed": (answering(gzip.compress(b" " * 2_000_000), "Content-Encoding: gzip"), "not as RabbitMQ does"),
    "elsewhere": (answering(b"", "Location: http://127.0.0.1:9/", status="302 Found"), "answers HTTP 302"),
    "broken": (answering(b"", status="500 No"), "answers HTTP 500"),
    "garbage": (answering(b"", status="\x00 "), "cannot be asked"),
    "cut": (answering(b"{", "Transfer-Encoding: chunked"), "cannot be asked"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_server_costs_one_line(kind: str) -> None:
    serve, complaint = HOSTILE[kind]
    async with serving(serve) as place:
        api = ManagementApi(url=f"http://user:S3cret@{place}/", vhost="/", tls=None, timeout=0.5)
        (finding,) = (await inspected(api)).values()

    assert (finding.ok, "S3cret" in finding.detail, "\n" in finding.detail) == (False, False, False)
    assert complaint in finding.detail
    assert place in finding.detail


async def test_of_several_hosts_another_answers() -> None:
    async with serving(cluster({"name": JOBS, "members": [A], "online": [A]})) as place:
        for _ in range(8):
            api = ManagementApi(url=f"http://u:p@127.0.0.1:9,{place}/", vhost="/", tls=None)
            assert (await api.queues([JOBS]))[JOBS].members == (A,)


async def test_a_prefix_of_the_path_is_kept() -> None:
    heads: list[bytes] = []

    async def note(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await cluster()(head, writer)

    async with serving(note) as place:
        await ManagementApi(url=f"http://u:p@{place}/mq/", vhost="/", tls=None).queues([JOBS])

    assert heads[0].startswith(b"GET /mq/api/queues/%2F?")


def view(name: str = JOBS, **found: Any) -> QueueView:
    base = {"type": "quorum", "leader": A, "members": (A, B, C), "online": (A, B, C)}
    return QueueView(name=name, **{**base, "arguments": TOPOLOGY.queues()[name], **found})


def verdicts(found: QueueView | None, name: str = JOBS, nodes: int | None = 3) -> list[tuple[str, bool, str]]:
    return [(one.name, one.ok, one.detail) for one in judge(TOPOLOGY, name, found, nodes)]


@pytest.mark.parametrize(
    ("found", "ok", "detail"),
    [
        ({}, True, f"quorum, leader {A}, members {A}, {B}, {C}, all online"),
        ({"online": (A, C)}, True, f"quorum, leader {A}, members {A}, {B}, {C}, not online: {B}"),
        ({"online": (A,)}, False, f"not online: {B}, {C}"),
        ({"members": (A, B, C, "d"), "online": (A, B)}, False, f"not online: d, {C}"),
        ({"members": (A, B, C, "d", "e"), "online": (A, B, C)}, True, "not online: d, e"),
        ({"online": (B, C)}, False, f"not online: {A}"),
        ({"leader": None}, False, "leader None"),
        ({"members": (A,), "online": (A,)}, False, f"members {A}, all online; the cluster has 3 nodes"),
        ({"type": "classic"}, False, "none: its type is classic"),
    ],
)
def test_members_are_told_and_judged(found: dict[str, Any], ok: bool, detail: str) -> None:
    ((_, is_ok, told),) = verdicts(view(**found))

    assert is_ok is ok
    assert detail in told


def test_one_member_is_right_where_there_is_one_node() -> None:
    alone = view(members=(A,), online=(A,))

    assert [ok for _, ok, _ in (*verdicts(alone, nodes=1), *verdicts(alone, nodes=None))] == [True, True]


def test_a_queue_that_is_not_shown_is_no_fault() -> None:
    ((_, ok, detail),) = verdicts(None)

    assert (ok, detail.startswith("not shown")) == (True, True)


def test_other_arguments_are_told() -> None:
    """As somebody else may have declared the queue, for workers that may not."""
    found = dict(TOPOLOGY.queues()[JOBS]) | {"x-delivery-limit": 3, "x-single-active-consumer": True}
    _, (name, ok, detail) = verdicts(view(arguments=found))

    assert (name, ok) == (f"settings of {JOBS}", False)
    assert detail == "x-delivery-limit is 3 instead of 20; x-single-active-consumer is true instead of unset"


@pytest.mark.parametrize(
    ("rules", "harm"),
    [
        ({"expires": 1}, "expires is 1 by policy"),
        ({"delivery-limit": 2}, "delivery-limit is 2 by policy"),
        ({"delivery-limit": 20}, ""),
        ({"delivery-limit": -1}, ""),
        ({"max-length-bytes": 0}, "max-length-bytes is 0 by policy"),
        ({"overflow": "reject-publish"}, ""),
        ({"dead-letter-exchange": "elsewhere"}, ""),
        ({"message-ttl": "soon"}, ""),
    ],
)
def test_a_policy_harms_if_it_takes_what_is_relied_on(rules: dict[str, Any], harm: str) -> None:
    assert [detail for _, _, detail in verdicts(view(effective_policy_definition=rules))[1:]] == [harm][
        : len(harm)
    ]


def test_what_the_server_says_stays_on_one_line() -> None:
    found = view(members=("a\n\x1b[31m", B, C), policy="x\r\n✓ all is well")

    assert all(detail.isprintable() for _, _, detail in verdicts(found))
