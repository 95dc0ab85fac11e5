"""The simulator's certificate, signed by an authority made for it alone."""

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

_LIFETIME = timedelta(days=365)
_SPARE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The certificate's files, in PEM.

    Attributes:
        ca: The authority's certificate, which clients trust.
        server: The server's key and certificate; readable by its owner alone.
    """

    ca: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        """Make the context of a server with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        return context


def ensure_certificate(directory: Path, names: Sequence[str]) -> CertificateFiles:
    """Load the certificate of a directory. Make a new one if it is missing, expired or for other names.

    Args:
        directory: Where it is kept; created if it is missing.
        names: The host names and IP addresses that it is for.

    Raises:
        OSError: The directory cannot be written to.
    """
    files = CertificateFiles(directory / "ca.pem", directory / "server.pem")
    if not _is_good(files, names):
        directory.mkdir(parents=True, exist_ok=True)
        ca, server = _make(names)
        # The mode is given at creation: the key is never readable by others, not even for a moment.
        with os.fdopen(os.open(files.server, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(server)
        files.ca.write_bytes(ca)
    return files


def _is_good(files: CertificateFiles, names: Sequence[str]) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(files.server.read_bytes())
        ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
        leaf.verify_directly_issued_by(ca)
    except (OSError, ValueError, TypeError):
        return False
    covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fresh = leaf.not_valid_after_utc > datetime.now(UTC) + _SPARE
    return fresh and set(covered) == set(_general_names(names))


def _make(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Make the PEM of an authority's certificate, and of a server's key and certificate."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name.from_rfc4514_string("CN=ccfs-worker simulator CA")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        _builder(x509.Name.from_rfc4514_string("CN=ccfs-worker simulator"), ca_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    # The authority's key is not kept: what a client trusts can never sign another certificate.
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    return ca.public_bytes(pem), private + leaf.public_bytes(pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SPARE)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general
