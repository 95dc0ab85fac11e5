"""A network of the lab's own, with a namespace for each node.

It has two bridges: one for clients, which are in the lab's own namespace, and one for Erlang distribution.
Each node has a veth(4) on both, so that nodes can be parted from each other and still serve clients. Nothing
is undone: all of it ends with the lab's own namespaces (`__main__.py`).
"""

import subprocess

CLIENTS, PEERS = "clients", "peers"
_PREFIXES = {CLIENTS: "10.98.2", PEERS: "10.98.1"}
_LAB = 254


def address(bridge: str, node: int) -> str:
    """The address of a node on a bridge."""
    return f"{_PREFIXES[bridge]}.{node}"


def inside(node: int) -> tuple[str, ...]:
    """The words before a command that make it run in the namespace of a node."""
    return ("nsenter", f"--net=/run/netns/{_namespace(node)}")


def build(nodes: int) -> None:
    """Make bridges, and namespaces for nodes 1 to `nodes`."""
    for bridge in _PREFIXES:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
    _ip("addr", "add", f"{address(CLIENTS, _LAB)}/24", "dev", CLIENTS)
    for node in range(1, nodes + 1):
        _ip("netns", "add", _namespace(node))
        _ip("-n", _namespace(node), "link", "set", "lo", "up")
        for bridge in _PREFIXES:
            _connect(node, bridge)


def cut(node: int) -> None:
    """Part a node from the others: no packet of Erlang distribution reaches it, and none is refused."""
    _ip("link", "set", f"{PEERS}{node}", "nomaster")


def join(node: int) -> None:
    """Connect a node with the others again."""
    _ip("link", "set", f"{PEERS}{node}", "master", PEERS)


def _namespace(node: int) -> str:
    return f"node{node}"


def _connect(node: int, bridge: str) -> None:
    namespace, ours = _namespace(node), f"{bridge}{node}"
    _ip("link", "add", ours, "type", "veth", "peer", "name", bridge, "netns", namespace)
    _ip("link", "set", ours, "master", bridge, "up")
    _ip("-n", namespace, "addr", "add", f"{address(bridge, node)}/24", "dev", bridge)
    _ip("-n", namespace, "link", "set", bridge, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
