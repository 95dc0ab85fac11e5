"""The broker's address, and its management API's, is read again as it is set at that moment, with a bound."""

import asyncio
import base64
import ssl
import threading
from pathlib import Path

import pytest

from tests.ccfs.authority import Authority
from tests.management import cluster, serving
from worker.errors import BrokerError
from worker.settings import load
from worker.storage import Threads
from worker.wiring import broker_address, management_api, member_watch


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A mounted Secret with login and authorities."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKER_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("WORKER_AMQP__CA_FILE", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("WORKER_AMQP__URL", "amqps://user@rabbit/")
    (tmp_path / "WORKER_AMQP__PASSWORD").write_text("password")
    return tmp_path


async def test_login_and_authorities_are_those_of_the_moment(folder: Path, executor: Threads) -> None:
    for password in ("first", "second"):
        authorities = Authority().write(folder / "ca.crt").read_text()
        (folder / "WORKER_AMQP__PASSWORD").write_text(password)

        found = await broker_address(executor, 60)

        assert found.url == f"amqps://user:{password}@rabbit/"
        assert found.tls is not None
        (trusted,) = found.tls.get_ca_certs(binary_form=True)
        assert trusted == ssl.PEM_cert_to_DER_cert(authorities)


async def test_what_cannot_be_used_is_named(folder: Path, executor: Threads) -> None:
    assert not (folder / "ca.crt").exists()

    with pytest.raises(BrokerError, match=r"WORKER_AMQP__CA_FILE, .*No such file"):
        await broker_address(executor, 60)


async def test_a_volume_that_hangs_is_given_up(executor: Threads) -> None:
    answers = threading.Event()
    for _ in range(2):
        executor.start(answers.wait)
    try:
        with pytest.raises(BrokerError, match=r"could not be read again within 0\.01 s"):
            await broker_address(executor, 0.01)
    finally:
        answers.set()


async def test_the_management_login_is_read_again_for_each_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executor: Threads
) -> None:
    secret = tmp_path / "WORKER_AMQP__MANAGEMENT_URL"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKER_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("WORKER_CCFS__BASE_URL", "https://127.0.0.1:28080")
    monkeypatch.setenv("WORKER_CREDENTIALS__DIR", str(tmp_path))
    monkeypatch.setenv("WORKER_STORAGE__ROOT", str(tmp_path))
    answer, seen = cluster(), asyncio.Queue[str]()

    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        (line,) = (line for line in head.splitlines() if line.lower().startswith(b"authorization: basic "))
        seen.put_nowait(base64.b64decode(line.split()[2]).decode())
        await answer(head, writer)

    async with serving(serve) as place:
        secret.write_text(f"http://monitor:first@{place}/")
        settings = load()
        watch = member_watch(settings, management_api(settings.amqp), executor)
        for password in ("first", "second"):
            secret.write_text(f"http://monitor:{password}@{place}/")
            async with asyncio.TaskGroup() as tasks:
                question = tasks.create_task(watch.run())
                assert await seen.get() == f"monitor:{password}"
                question.cancel()
