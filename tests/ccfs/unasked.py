"""What a server may send that nobody asked for, on a connection that is kept."""

import pytest

from tests.ccfs.raw import response
from tests.ccfs.samples import make_zip

OTHER = make_zip(b"somebody else's file")

UNASKED = [
    pytest.param(response(OTHER), id="another file"),
    pytest.param(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", id="a timeout"),
    pytest.param(response(OTHER)[:-5], id="most of another file"),
    pytest.param(b"nonsense", id="nonsense"),
    pytest.param(b"\r\n", id="an empty line"),
]
