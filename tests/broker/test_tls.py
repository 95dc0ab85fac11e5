"""A broker over TLS that asks for a certificate: as the settings say, or one line that says what is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from devkit.run.rabbitmq import PrivateRabbitMQ, TlsFiles
from worker import wiring
from worker.broker import BrokerOptions, open_session
from worker.errors import BrokerError
from worker.settings import AmqpGroup


@dataclass(frozen=True)
class Guarded:
    """A broker that lets nobody in without a certificate of its authority.

    Attributes:
        url: Where it is.
        ca_file: Who vouches for it, and for those whom it lets in.
        cert_file: The certificate and key of somebody whom it lets in.
    """

    url: str
    ca_file: Path
    cert_file: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    server = authority.issue_cert("localhost")
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem", require_client_cert=True)
    authority.cert_pem.write_to_path(files.ca)
    files.cert.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(files.key)
    client = folder / "client.pem"
    authority.issue_cert("worker@example.org").private_key_and_cert_chain_pem.write_to_path(client)
    with PrivateRabbitMQ(tls=files) as node:
        assert node.tls_url
        yield Guarded(node.tls_url, files.ca, client)


async def enter(options: BrokerOptions, amqp: AmqpGroup) -> bool:
    over_tls = replace(options, url=amqp.url.get_secret_value(), tls=wiring.amqp_tls(amqp))
    async with open_session(over_tls, on_job=lambda _: None, on_dropped=lambda _: None) as session:
        await session.consume()
        return session.consuming


async def test_the_certificate_of_the_settings_opens_the_broker(
    guarded: Guarded, options: BrokerOptions
) -> None:
    amqp = AmqpGroup(url=guarded.url, ca_file=guarded.ca_file, cert_file=guarded.cert_file)

    assert await enter(options, amqp)


async def test_without_a_certificate_the_broker_stays_closed(
    guarded: Guarded, options: BrokerOptions
) -> None:
    with pytest.raises(BrokerError, match=r"RabbitMQ at localhost:\d+/"):
        await enter(options, AmqpGroup(url=guarded.url, ca_file=guarded.ca_file))


async def test_a_broker_that_nobody_vouches_for_is_not_trusted(
    guarded: Guarded, options: BrokerOptions
) -> None:
    """Whatever the client shows of itself, and with the line that names the cause."""
    with pytest.raises(BrokerError, match="certificate verify failed"):
        await enter(options, AmqpGroup(url=guarded.url, cert_file=guarded.cert_file))
