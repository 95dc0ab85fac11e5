"""TLS to the broker and CC-FS. Certificates are verified unless a `danger_…` setting says otherwise."""

import ssl
from pathlib import Path


def client_context(
    *,
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """Make a context for outgoing connections, with Python's default ciphers and versions.

    Args:
        ca_file: PEM file of the authorities to trust; None trusts the system's.
        certificate: PEM file of our own certificate, for peers that ask for one.
        key: PEM file of that certificate's private key; None looks for it in `certificate`.
        verify: False accepts any certificate: a man in the middle can then read and change everything.

    Raises:
        OSError: A file cannot be read, holds no PEM data (`ssl.SSLError` is an OSError), or holds a key
            that needs a password.
    """

    def refuse_password() -> str:
        # Without this callback OpenSSL asks on the terminal, and a worker that has none waits for ever.
        raise OSError("the private key is encrypted; store it without a password")

    context = ssl.create_default_context(cafile=ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, key, refuse_password)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
