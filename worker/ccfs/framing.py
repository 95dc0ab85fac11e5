"""Reads the head of a response and chunked framing by llhttp (httptools), without I/O of its own."""

import httptools

from worker.ccfs.errors import NotHttpError

SWITCHED = 101

_MAX_FRAMING = 64 * 1024
"""Bytes of a head, or of chunked framing between two bytes of a body. httptools bounds neither."""
_MAX_HEADERS = 200
_MAX_LENGTH_DIGITS = 18
"""As many as always fit into 64 bits, signed. int() refuses more than 4,300 (sys.set_int_max_str_digits)."""
_NO_BODY = frozenset({SWITCHED, 204, 304})
"""Statuses after which there is none, whatever the headers say (RFC 9112, section 6.3)."""
_VERSIONS = frozenset({"1.0", "1.1"})
_BLANK_LINE = b"\r\n\r\n"
_LOOKED_AT = frozenset(
    (
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"date",
        b"location",
        b"retry-after",
        b"transfer-encoding",
    )
)


class Framing:
    """One message: its head, and its body if that is chunked.

    Attributes:
        status: The HTTP status; 0 until the head is complete.
        headers: Those that anybody looks at, by lower-case name; of several of one name, the list.
        may_reuse: Whether another response may follow on the connection.
        is_chunked: Whether the body is chunked.
        is_whole: Whether the last chunk came.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.may_reuse = self.is_chunked = self.is_whole = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._framing_bytes = self._header_count = 0
        self._tail = b""
        self._body: list[bytes] = []

    def head(self, data: bytes) -> bytes:
        """Read on in the head; returns what follows it. Raises NotHttpError."""
        seen = self._tail + data if self._tail else data
        end = seen.find(_BLANK_LINE)
        # The parser gets no byte of the body: it would not say how far it came.
        size = len(data) if end < 0 else end + len(_BLANK_LINE) - len(self._tail)
        self._tail = b"" if end >= 0 else seen[1 - len(_BLANK_LINE) :]
        self._feed(data[:size])
        return data[size:]

    def body_length(self, *, has_body: bool) -> int | None:
        """Decide where the body ends (RFC 9112, section 6.3), once the head is complete.

        Args:
            has_body: False for the answer to a CONNECT, which has none.

        Returns:
            Its bytes; None when it ends with its last chunk, or with the connection.

        Raises:
            NotHttpError: It can be read in two ways: a proxy on the way may read it in the other.
        """
        if self._parser is not None and self._parser.get_http_version() not in _VERSIONS:
            raise NotHttpError("it is of another version than 1.0 and 1.1")
        encoding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        is_empty = self.status in _NO_BODY or not has_body
        if encoding is not None and not is_empty:
            if length is not None or encoding.lower() != "chunked":
                raise NotHttpError("its Transfer-Encoding is not chunked, or stands beside a Content-Length")
            self.is_chunked = True
            return None
        # The parser refers to us and we to it: left so, each response would wait for the garbage collector.
        self._parser = None
        if is_empty:
            return 0
        if length is None:
            return None
        if len(length) > _MAX_LENGTH_DIGITS or not (length.isascii() and length.isdigit()):
            raise NotHttpError(f"its Content-Length of {len(length)} characters is no size")
        return int(length)

    def chunks(self, data: bytes) -> list[bytes]:
        """Read on in a chunked body; returns the bytes of the body themselves. Raises NotHttpError."""
        self._body = []
        self._feed(data)
        # The end of the last chunk's line, of the empty trailer, and of what may follow.
        self._tail = (self._tail + data)[-6:]
        if self.is_whole:
            self._parser = None
            # llhttp skips line ends before the next message without a word.
            if not self._tail.endswith(_BLANK_LINE) or self._tail == b"\r\n\r\n\r\n":
                self.may_reuse = False
        return self._body

    def on_message_begin(self) -> None:
        """Implements llhttp's callback. Behind the end of the response, it is one that nobody asked for."""
        if self.is_whole:
            self.may_reuse = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Implements llhttp's callback, for headers and trailers."""
        self._header_count += 1
        # Trailers come after the status: what they say of the body's length comes too late to count.
        if not self.status and (name := name.lower()) in _LOOKED_AT:
            key, text = name.decode("ascii"), value.decode("latin-1")
            known = self.headers.get(key)
            self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Implements llhttp's callback."""
        # Called again for a second message in the same bytes.
        if not self.status and self._parser is not None:
            self.status = self._parser.get_status_code()
            self.may_reuse = self._parser.should_keep_alive() and self.status != SWITCHED

    def on_body(self, body: bytes) -> None:
        """Implements llhttp's callback, for chunked bodies."""
        if not self.is_whole:
            self._framing_bytes = 0
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Implements llhttp's callback."""
        self.is_whole = True

    def _feed(self, data: bytes) -> None:
        self._framing_bytes += len(data)
        if not self.is_chunked:
            self._refuse_endless()
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # llhttp takes it for the end of HTTP on this connection: a 101, which has no body.
            pass
        except httptools.HttpParserError as exc:
            if not self.is_whole:
                raise NotHttpError(str(exc)) from exc
            self.may_reuse = False
        self._refuse_endless()

    def _refuse_endless(self) -> None:
        if self._framing_bytes > _MAX_FRAMING or self._header_count > _MAX_HEADERS:
            raise NotHttpError("its headers, trailers or chunk sizes are too long")
