"""What tests do to sockets."""

import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_NO_LINGER = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Make the socket's end a TCP reset instead of a farewell (SO_LINGER, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 at which nobody is accepted, and no room is left to wait in."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def addresses(*ports: int) -> Callable[..., Awaitable[list[tuple[Any, ...]]]]:
    """A `getaddrinfo` for which every name has these ports of 127.0.0.1 as its addresses."""

    async def look_up(*_: object, **__: object) -> list[tuple[Any, ...]]:
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, ("127.0.0.1", port)) for port in ports]

    return look_up
