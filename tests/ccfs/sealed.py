"""A server whose TLS a test scripts record by record."""

import ssl

from tests.ccfs.raw import Peer


class Sealed:
    """TLS on a plain connection of a test's server, with every byte in the test's hands."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self._peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._peer.send(self._outgoing.read())
                self._incoming.write(await self._peer.something())
            else:
                return

    async def request(self) -> bytes:
        """Read a request that is known to come in one record; EOFError when the client hangs up instead."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                sealed = await self._peer.something()
                if not sealed:
                    raise EOFError from None
                self._incoming.write(sealed)

    def seal(self, data: bytes) -> bytes:
        """Give the records of these bytes, session tickets that wait included, without sending them."""
        self._tls.write(data)
        return self._outgoing.read()
