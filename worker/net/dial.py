"""Opens TCP connections, by whichever address of a name answers first (RFC 8305)."""

import asyncio
import socket

from aiohappyeyeballs import start_connection

_NEXT_ADDRESS = 0.25
"""Seconds after which the next address is tried beside the last one (RFC 8305, section 5)."""


async def dial(host: str, port: int) -> socket.socket:
    """Connect; takes as long as it takes.

    Neither uvloop nor a list of addresses tried one by one gets past an address that swallows everything:
    uvloop's `create_connection` has no `happy_eyeballs_delay`.

    Args:
        host: A name or an address.
        port: The port.

    Returns:
        The connected socket, for the event loop's `create_connection`.

    Raises:
        OSError: The name is not known, or none of its addresses can be reached.
    """
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS)
