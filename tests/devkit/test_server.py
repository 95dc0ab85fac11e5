"""Finding and installing the server: the system's own broker is never touched."""

import os
from pathlib import Path

import pytest

from devkit.run import server, system


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without RabbitMQ: an empty folder is all there is to search."""
    monkeypatch.delenv("RABBITMQ", raising=False)
    monkeypatch.setattr(system, "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(server, "_USUAL_FOLDERS", ())
    return tmp_path


def add_programs(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch(mode=0o755)


def refuse_install() -> None:
    pytest.fail("apt-get must not run")


def test_missing_server_is_one_clear_message(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server and without root, the message names both ways out."""
    add_programs(nowhere, "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(server, "_install", refuse_install)
    with pytest.raises(SystemExit, match=r"(?s)apt-get install rabbitmq-server.*docker run.*AMQP=amqp://"):
        server.ensure()


def test_root_installs_a_missing_server(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root with apt-get, a missing server is installed and then found."""
    add_programs(nowhere, "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    parts = ("rabbitmq-env", "rabbitmq-server", "rabbitmqctl")
    monkeypatch.setattr(server, "_install", lambda: add_programs(nowhere, *parts))
    assert server.ensure() == server.Installation(nowhere)


def test_installed_server_is_left_alone(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is installed in a way we don't know is never installed over."""
    add_programs(nowhere, "apt-get", "rabbitmq-server")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(server, "_install", refuse_install)
    with pytest.raises(SystemExit):
        server.ensure()


def test_services_are_denied_only_meanwhile(tmp_path: Path) -> None:
    """The policy script says no while a package is installed, and is gone afterwards."""
    policy = tmp_path / "policy-rc.d"
    with system.no_service_starts(policy):
        assert "exit 101" in policy.read_text()
        assert os.access(policy, os.X_OK)
    assert list(tmp_path.iterdir()) == []


def test_existing_policy_comes_back(tmp_path: Path) -> None:
    """A policy of the administrator's is put back, also after a failure."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    with pytest.raises(OSError, match="full"), system.no_service_starts(policy):
        raise OSError("full")
    assert policy.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [policy]


def test_policy_outlives_a_killed_run(tmp_path: Path) -> None:
    """The run after a killed one tells the left-over policy from the administrator's."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    with system.no_service_starts(policy):
        killed = {file: file.read_text() for file in tmp_path.iterdir()}
    for file, text in killed.items():
        file.write_text(text)
    with system.no_service_starts(policy):
        pass
    assert policy.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [policy]
