"""The broker's address is read again as it is set at that moment, with a bound."""

import ssl
import threading
from pathlib import Path

import pytest

from tests.ccfs.authority import Authority
from worker.errors import BrokerError
from worker.storage import Threads
from worker.wiring import broker_address


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
