"""Choose the broker to work with: the user's own, or a private node.

`python -m devkit.run.broker` runs a node until Ctrl-C; `python -m devkit.run.broker ensure` only
installs what a node needs, so that no installation interrupts what follows.
"""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from devkit.run import server
from devkit.run.ports import is_free
from devkit.run.rabbitmq import PrivateRabbitMQ

_OWN_URL = "AMQP"
_DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
_REACH_TIMEOUT = 5.0


@dataclass(frozen=True)
class Broker:
    """A broker that is up.

    Attributes:
        url: Where clients connect.
        node: What to stop and start it with; None when it is the user's own.
    """

    url: str
    node: PrivateRabbitMQ | None


@contextmanager
def open_broker() -> Iterator[Broker]:
    """Open the broker that `AMQP` names, or else a private node.

    Yields:
        The broker, for as long as the context lasts.

    Raises:
        SystemExit: There is none to open; the text says what to do.
    """
    if url := os.environ.get(_OWN_URL):
        _check_reachable(url)
        yield Broker(url, None)
        return
    with PrivateRabbitMQ() as node:
        yield Broker(node.url, node)


@contextmanager
def broker_url() -> Iterator[str]:
    """Open a broker as `open_broker` does, and yield its URL alone."""
    with open_broker() as broker:
        yield broker.url


def ensure() -> None:
    """Install RabbitMQ where `open_broker` would.

    Raises:
        SystemExit: There is none and it cannot be installed; the text says what to do.
    """
    if not os.environ.get(_OWN_URL):
        server.ensure()


def main() -> None:
    """Run what the command line asks for."""
    if sys.argv[1:] == ["ensure"]:
        ensure()
    elif sys.argv[1:]:
        raise SystemExit("usage: python -m devkit.run.broker [ensure]")
    else:
        _run()


def _check_reachable(url: str) -> None:
    parts = urlsplit(url)
    address = (parts.hostname or "localhost", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0))
    try:
        socket.create_connection(address, timeout=_REACH_TIMEOUT).close()
    except OSError as error:
        # Without the URL itself, which may hold a password.
        place = f"{address[0]}:{address[1]}"
        raise SystemExit(f"No broker answers at {place}, which {_OWN_URL} names: {error}") from error


def _run() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    usual = _DEFAULT_PORTS["amqp"]
    try:
        with PrivateRabbitMQ(port=usual if is_free(usual) else None) as node:
            print(f"RabbitMQ {node.rabbitmqctl('version').strip()} at {node.url} (Ctrl-C ends it)")
            if f":{usual}/" not in node.url:
                print(f"Port {usual} is taken. Where you use this one: export WORKER_AMQP__URL={node.url}")
            sys.stdout.flush()
            node.wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
