"""The broker's login apart from its URL: read again for each session, and shown nowhere."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from devkit.run.broker import Broker
from devkit.run.rabbitmq import PrivateRabbitMQ
from devkit.run.worker_process import WorkerProcess
from tests.commands import CCFS_WORKER, command
from tests.installation import Site, bill
from worker.settings import SECRETS_DIR

FIRST, SECOND = "hunter2/?#@:%", "correct horse, 电池"


@pytest.fixture
def node(rabbitmq: Broker) -> PrivateRabbitMQ:
    if rabbitmq.node is None:
        pytest.skip("needs a broker whose users we may change")
    return rabbitmq.node


@pytest.fixture
def user(node: PrivateRabbitMQ) -> Iterator[str]:
    """A user of the broker, whose name needs to be encoded in a URL."""
    name = f"rota@{secrets.token_hex(4)}"
    node.rabbitmqctl("add_user", name, FIRST)
    node.rabbitmqctl("set_permissions", name, ".*", ".*", ".*")
    yield name
    node.rabbitmqctl("delete_user", name)


@pytest.fixture
def login(site: Site, user: str, tmp_path: Path) -> Path:
    """A mounted Secret with the login, and the URL without it."""
    folder = tmp_path / "login"
    folder.mkdir()
    for name, value in {
        "URL": str(URL(site.url).with_user(None)),
        "USERNAME": user,
        "PASSWORD": FIRST + "\n",
    }.items():
        (folder / f"WORKER_AMQP__{name}").write_text(value)
    return folder


async def test_a_changed_password_works_without_a_restart(
    site: Site, node: PrivateRabbitMQ, user: str, login: Path
) -> None:
    """A session lives on with the old one; the next one takes what the files hold by then."""
    url, password = login / "WORKER_AMQP__URL", login / "WORKER_AMQP__PASSWORD"
    with site.worker(AMQP__URL="", SECRETS_DIR=str(login)) as worker:
        await site.publish(bill(1))
        await site.settled()
        node.rabbitmqctl("change_password", user, SECOND)
        right = url.read_text()
        url.write_text("amqp://")
        node.rabbitmqctl("close_all_connections", "a test")
        await unavailable(worker, "WORKER_AMQP__URL: must be a URL")
        url.write_text(right)
        await unavailable(worker, "WORKER_AMQP__USERNAME and WORKER_AMQP__PASSWORD")
        shown = str(await worker.readiness(503))
        password.write_text(SECOND)
        await worker.readiness()
        await site.publish(bill(2))
        counts = await site.settled()
        shown += f"{await worker.get('/status')} {await worker.get('/metrics')}"

    assert counts.sound
    shown += worker.log_file.read_text()
    assert not {part for part in ("hunter2", "correct", "horse", "%2F%3F", "电池") if part in shown}


async def unavailable(worker: WorkerProcess, reason: str) -> None:
    """Wait until the worker says that it has no session, and why."""
    told = 1
    while reason not in (await worker.logged("broker.unavailable", count=told))["reason"]:
        told += 1


def test_check_and_config_show_the_user_and_no_password(site: Site, user: str, login: Path) -> None:
    settings = site.settings(AMQP__URL="") | {SECRETS_DIR: str(login)}

    checked = command(CCFS_WORKER, "check", "--only", "broker", settings=settings)
    shown = command(CCFS_WORKER, "config", settings=settings)

    assert checked.returncode == shown.returncode == 0
    assert f"amqp://{URL.build(user=user, host='h', scheme='amqp').raw_user}:***@" in checked.stdout
    assert user in shown.stdout
    assert "hunter2" not in checked.stdout + checked.stderr + shown.stdout + shown.stderr
