"""Find free ports for private servers."""

import secrets
import socket

_HOST = "127.0.0.1"

# Below the ports that outgoing connections get: a client that keeps calling a stopped broker on one of those
# can end up connected to itself, and the broker then finds its port taken.
_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return `count` ports that nobody listens on now."""
    ports: set[int] = set()
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        if is_free(port):
            ports.add(port)
    return list(ports)


def is_free(port: int) -> bool:
    """Return whether nobody listens there on the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
