"""Find free ports for private servers."""

import secrets
import socket

_HOST = "127.0.0.1"

# Below the ports that outgoing connections get: a client that keeps calling a stopped broker on one of those
# can end up connected to itself, and the broker then finds its port taken.
_PORTS = range(20_000, 32_000)
_given: set[int] = set()
_mine = _PORTS


def keep_to(part: int, parts: int) -> None:
    """Have `free_ports` give only one of `parts` shares of the ports, from 0 on.

    A port that was given stays free until a server starts on it: processes that run beside each other would
    now and then be given the same one.
    """
    global _mine  # noqa: PLW0603 - the process's
    _mine = _PORTS[part % parts :: parts]


def free_ports(count: int) -> list[int]:
    """Return `count` ports that nobody listens on now, and that were not given before."""
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(_mine)
        if port not in _given and is_free(port):
            _given.add(port)
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    """Return whether nobody listens there on the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
