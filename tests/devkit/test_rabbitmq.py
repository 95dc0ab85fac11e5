"""The private node: it starts, keeps its data, stands alone and leaves nothing behind."""

import asyncio
import os
import ssl
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aio_pika
import pytest
import trustme
from aiormq.abc import FieldTable
from aiormq.exceptions import AMQPConnectionError

from devkit.run import server
from devkit.run.rabbitmq import BrokerStartError, PrivateRabbitMQ, TlsFiles

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        "AMQP" in os.environ and server.find() is None, reason="needs a RabbitMQ server on this machine"
    ),
]

GONE_WITHIN = 10.0
QUORUM: FieldTable = {"x-queue-type": "quorum"}
OWNER = """
import sys
from devkit.run.rabbitmq import PrivateRabbitMQ
with PrivateRabbitMQ() as node:
    node.rabbitmqctl("list_queues")
    print(node.log_file.parent, flush=True)
    sys.stdin.read()
"""


async def put(url: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments=QUORUM)
        await channel.default_exchange.publish(aio_pika.Message(body, delivery_mode=2), queue)


async def take(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        held = await channel.get_queue(queue)
        async with held.iterator(timeout=10) as messages:
            message = await anext(messages)
            await message.ack()
            return message.body


def processes_of(folder: str) -> list[str]:
    """Names the live processes whose home is the folder; a dead one not yet reaped has no environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={folder}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "comm").read_text().strip())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("end", [PrivateRabbitMQ.stop, PrivateRabbitMQ.kill])
async def test_restarted_node_has_its_queues_and_address(end: object) -> None:
    """A message in a quorum queue outlives a stop and a crash, and clients find the broker where it was."""
    assert callable(end)
    with PrivateRabbitMQ() as node:
        await put(node.url, "kept", b"hello")
        await asyncio.to_thread(node.sync_queues)
        await asyncio.to_thread(end, node)
        assert not node.running
        await asyncio.to_thread(node.start)
        assert await take(node.url, "kept") == b"hello"


def test_two_nodes_stand_side_by_side() -> None:
    """Concurrent nodes, started from threads that end before them, know nothing of each other."""
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: PrivateRabbitMQ().__enter__(), range(2))
    with first, second:
        asyncio.run(put(first.url, "mine", b""))
        assert first.url != second.url
        assert "mine" in first.rabbitmqctl("list_queues", "name")
        assert "mine" not in second.rabbitmqctl("list_queues", "name")


def test_nothing_outlives_a_killed_owner(tmp_path: Path) -> None:
    """SIGKILL of the process that started a node ends the node, its helpers and any epmd."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout
        folder = owner.stdout.readline().strip()
        assert "beam.smp" in processes_of(folder)
        owner.kill()
    deadline = time.monotonic() + GONE_WITHIN
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def test_nothing_is_left_after_the_context() -> None:
    """The node's folder is its user's alone; leaving the context ends every process and removes it."""
    with PrivateRabbitMQ() as node:
        folder = node.log_file.parent
        assert folder.stat().st_mode & 0o077 == 0
        with pytest.raises(RuntimeError, match="no_such_vhost"):
            node.rabbitmqctl("delete_vhost", "no_such_vhost")
        assert "epmd" not in processes_of(str(folder))
    assert not folder.exists()
    assert "beam.smp" not in processes_of(str(folder))


def test_failed_start_tells_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that cannot start says why, and keeps its logs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(BrokerStartError, match=r"(?s)no_such_setting.*logs are in /"),
        PrivateRabbitMQ(conf=["no_such_setting = 1"]),
    ):
        pass
    assert list(tmp_path.glob("rmq-*/startup.log"))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    certificate = authority.issue_cert("localhost")
    files = TlsFiles(
        tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem", require_client_cert=True
    )
    authority.cert_pem.write_to_path(files.ca)
    files.cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(files.key)
    return files


async def test_tls_listener_asks_for_a_certificate(authority: trustme.CA, tls: TlsFiles) -> None:
    """With a client certificate of the given authority one gets in, and without one not."""
    stranger = ssl.create_default_context(cafile=str(tls.ca))
    friend = ssl.create_default_context(cafile=str(tls.ca))
    authority.issue_cert("client@example.org").configure_cert(friend)
    with PrivateRabbitMQ(tls=tls) as node:
        assert node.tls_url
        async with await aio_pika.connect(node.tls_url, ssl_context=friend) as connection:
            assert not connection.is_closed
        with pytest.raises((AMQPConnectionError, OSError)):
            await aio_pika.connect(node.tls_url, ssl_context=stranger)
