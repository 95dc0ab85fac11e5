"""Whom the client trusts."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from schemas import ErrorCode
from tests.ccfs.authority import Authority
from tests.ccfs.raw import Peer, answering, response, serving
from tests.ccfs.samples import OpenClient, make_zip, read_all
from worker.errors import JobError
from worker.net.tls import client_context

FILE = make_zip()


async def test_a_server_of_the_authority_in_the_ca_file_is_trusted(
    client_for: OpenClient, authority: Authority, tmp_path: Path
) -> None:
    context = client_context(ca_file=authority.write(tmp_path / "ca.pem"))
    async with (
        serving(answering(response(FILE)), tls=authority.server()) as server,
        client_for(server.base_url, tls=context) as client,
    ):
        assert await read_all(client) == FILE


async def test_a_server_is_trusted_under_the_name_that_was_dialled(
    client_for: OpenClient, authority: Authority
) -> None:
    async with (
        serving(answering(response(FILE)), tls=authority.server("localhost"), name="localhost") as server,
        client_for(server.base_url, tls=authority.client()) as client,
    ):
        assert await read_all(client) == FILE


BAD: dict[str, tuple[Callable[[Authority], ssl.SSLContext], str]] = {
    "another authority": (lambda _: Authority().server(), "unable to get local issuer certificate"),
    "another address": (lambda authority: authority.server("10.0.0.1"), "not valid for '127.0.0.1'"),
    "a name only": (lambda authority: authority.server("ccfs.example"), "not valid for '127.0.0.1'"),
    "expired": (lambda authority: authority.server(expired=True), "certificate has expired"),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD.keys())
async def test_a_bad_certificate_is_unreachable_and_says_what_to_do(
    client_for: OpenClient, authority: Authority, make: Callable[[Authority], ssl.SSLContext], reason: str
) -> None:
    async with (
        serving(answering(response(FILE)), tls=make(authority)) as server,
        client_for(server.base_url, tls=authority.client()) as client,
    ):
        with pytest.raises(JobError) as caught:
            await read_all(client)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.UPSTREAM_UNREACHABLE, None)
    assert reason in caught.value.message
    assert "WORKER_CCFS__CA_FILE" in caught.value.message
    assert server.requests == []


@pytest.mark.parametrize("make", [make for make, _ in BAD.values()], ids=BAD.keys())
async def test_the_dangerous_setting_accepts_any_certificate(
    client_for: OpenClient, authority: Authority, make: Callable[[Authority], ssl.SSLContext]
) -> None:
    async with (
        serving(answering(response(FILE)), tls=make(authority)) as server,
        client_for(server.base_url, tls=client_context(verify=False)) as client,
    ):
        assert await read_all(client) == FILE


async def test_without_a_ca_file_the_systems_authorities_count(
    client_for: OpenClient, authority: Authority
) -> None:
    async with (
        serving(answering(response(FILE)), tls=authority.server()) as server,
        client_for(server.base_url) as client,
    ):
        with pytest.raises(JobError) as caught:
            await read_all(client)

    assert caught.value.code is ErrorCode.UPSTREAM_UNREACHABLE


async def test_a_server_without_tls_is_unreachable(client_for: OpenClient, authority: Authority) -> None:
    async def plain(peer: Peer) -> None:
        await peer.something()
        await peer.send(response(status=400))

    async with serving(plain) as server:
        base_url = server.base_url.replace("http:", "https:")
        async with client_for(base_url, tls=authority.client()) as client:
            with pytest.raises(JobError) as caught:
                await read_all(client)

    assert caught.value.code is ErrorCode.UPSTREAM_UNREACHABLE


def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    for ca_file in (tmp_path / "ca.pem", tmp_path / "missing.pem", tmp_path):
        with pytest.raises(OSError, match=r".+"):
            client_context(ca_file=ca_file)


def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("worker.example")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (tmp_path / "key.pem").write_bytes(encrypted)

    with pytest.raises(OSError, match="encrypted"):
        client_context(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
