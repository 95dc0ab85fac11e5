"""The choice of a broker: the user's own comes first."""

import socket
from collections.abc import Iterator

import pytest

from devkit.run import server
from devkit.run.broker import broker_url, ensure, open_broker


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"amqp://someone:secret@127.0.0.1:{listener.getsockname()[1]}/"


def test_own_broker_wins(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker that AMQP names is used as it is, whatever is installed."""
    monkeypatch.setenv("AMQP", url_of(listener))
    monkeypatch.setattr(server, "ensure", lambda: pytest.fail("no server is needed"))
    ensure()
    with open_broker() as broker:
        assert (broker.url, broker.node) == (url_of(listener), None)
    with broker_url() as url:
        assert url == url_of(listener)


def test_silent_own_broker_is_one_clear_line(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that doesn't answer is named by address, without the password of its URL."""
    monkeypatch.setenv("AMQP", url_of(listener))
    listener.close()
    with pytest.raises(SystemExit) as caught, open_broker():
        pass
    assert "No broker answers at 127.0.0.1:" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_server_is_ensured_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AMQP, a server is seen to before anything else starts."""
    called = []
    monkeypatch.delenv("AMQP", raising=False)
    monkeypatch.setattr(server, "ensure", lambda: called.append(True))
    ensure()
    assert called
