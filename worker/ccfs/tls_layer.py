"""TLS between a transport and the bytes of HTTP, without I/O of its own.

The event loop's own TLS transport does not say whether bytes wait in it. On a kept connection they would be
taken for the answer to the next request, and part of a record would be completed as one. It also takes half a
mebibyte for each connection whose reading is paused.
"""

import math
import ssl


class TlsLayer:
    """The client's side of one TLS connection.

    Args:
        context: How the server is verified.
        server_name: The name or address that its certificate has to have.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self.is_over = False
        """Whether the server has ended the TLS (close_notify: RFC 8446, section 6.1)."""

    @property
    def holds_bytes(self) -> bool:
        """Whether anything waits that was received and not read.

        OpenSSL takes one record at a time from the buffer (read-ahead is off unless asked for), and only
        within `read_into`: while that is not called, no part of a record can hide.
        """
        return bool(self._incoming.pending or self._tls.pending())

    @property
    def certificate_end(self) -> float:
        """When the server's certificate ends, in Unix seconds; NaN when it was not verified."""
        ends = (self._tls.getpeercert() or {}).get("notAfter")
        return ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else math.nan

    def shake_hands(self) -> bool:
        """Go on with the handshake; returns whether it is complete. Raises ssl.SSLError."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def received(self, sealed: memoryview) -> None:
        """Take in what came from the transport."""
        self._incoming.write(sealed)

    def to_send(self, plain: bytes = b"") -> bytes:
        """Encrypt bytes; returns them, and what TLS itself has to say, for the transport."""
        if plain:
            self._tls.write(plain)
        # A key update, or a renegotiation in mid-body, is answered by OpenSSL while it reads.
        return self._outgoing.read() if self._outgoing.pending else b""

    def read_into(self, room: memoryview, *, one_record: bool) -> int:
        """Decrypt what was received, as far as there is room; returns the size, 0 when more is needed.

        Args:
            room: Where to.
            one_record: Stop after one record, as long as the end of the answer is not known: what follows it
                must stay where `holds_bytes` sees it.

        Raises:
            ssl.SSLError: What came is no TLS, or was changed on its way.
        """
        filled, incoming, tls = 0, self._incoming, self._tls
        while filled < len(room) and (incoming.pending or tls.pending()):
            try:
                size = int(tls.read(len(room) - filled, room[filled:]))
            except ssl.SSLWantReadError:
                # Only a part of a record came, or one without bytes of HTTP, as a session ticket.
                break
            filled += size
            # A read of nothing is OpenSSL's way to report close_notify; without it, the connection was cut.
            self.is_over = not size
            if one_record or self.is_over:
                break
        return filled
