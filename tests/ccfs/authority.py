"""Certificates made for a test: good ones, and each kind of bad one."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import trustme

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def client(self) -> ssl.SSLContext:
        """A context that trusts this authority."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """A server's context, with a certificate for these names or addresses."""
        leaf = self._ca.issue_cert(*names or ("127.0.0.1",), not_after=LONG_AGO if expired else None)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        leaf.configure_cert(context)
        return context

    def write(self, path: Path) -> Path:
        """Write the authority's own certificate as PEM."""
        self._ca.cert_pem.write_to_path(str(path))
        return path
