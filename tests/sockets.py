"""What tests do to sockets."""

import socket
import struct

_NO_LINGER = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Make the socket's end a TCP reset instead of a farewell (SO_LINGER, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
