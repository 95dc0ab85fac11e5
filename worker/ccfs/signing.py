"""Signs requests for CC-FS ("auth-v2"), byte for byte over what is sent. Pure.

Source: the vendor's help-centre page cec_07_0003 ("C2 Monitoring, System Outbound Call, CDR, and
Knowledge Base Interface Authentication") and its demo client.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote_from_bytes

SCHEME = "auth-v2"
_FEW = 128
"""Size of the cache: one worker sends fewer different names and values of headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is signed.

    Attributes:
        method: The HTTP method in upper case.
        path: The path as it is sent.
        headers: The headers to sign, exactly as they are sent; `host` is mandatory.
        body: The bytes of the body as they are sent.
        query: The query parameters before encoding.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)


def format_timestamp(moment: datetime) -> str:
    """Write a moment as auth-v2 requires it: UTC, `yyyy-MM-dd'T'HH:mm:ss'Z'`, no fraction.

    Raises:
        ValueError: The moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be signed")
    return f"{moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat()}Z"


def canonical_request(request: Request) -> str:
    """Return the text whose signature CC-FS compares: a line for each part, no line break at the end.

    Raises:
        ValueError: `host` is not among the headers.
    """
    lowered = _lowered(request.headers)
    lines = [request.method, request.path]
    if request.query:
        lines.append(
            "&".join(sorted(f"{_encode(name)}={_encode(value)}" for name, value in request.query.items()))
        )
    lines.append(";".join(lowered))
    lines.extend(f"{_encode(name)}:{_encode(value)}" for name, value in lowered.items())
    lines.append(quote_from_bytes(request.body, safe=""))
    return "\n".join(lines)


def authorization(request: Request, *, access_key: str, secret_key: str, timestamp: str) -> str:
    """The value of the Authorization header. `access_key` is the appId.

    The timestamp is as from `format_timestamp`; CC-FS refuses a stale one.

    Raises:
        ValueError: `host` is not among the headers.
    """
    signed_headers = ";".join(_lowered(request.headers))
    prefix = f"{SCHEME}/{access_key}/{timestamp}/{signed_headers}"
    signing_key = hmac_hex(secret_key, prefix)
    return f"{prefix}/{hmac_hex(signing_key, canonical_request(request))}"


def hmac_hex(key: str, message: str) -> str:
    """An HMAC by SHA-256. Its hex text, not its raw bytes, is the key of one request's signature."""
    # Not hmac.digest: it releases Python's lock, and to take that again costs more than the digest.
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = dict(sorted((name.lower(), value) for name, value in headers.items()))
    if "host" not in lowered:
        raise ValueError("auth-v2 wants the host header signed")
    return lowered


@lru_cache(_FEW)
def _encode(text: str) -> str:
    # All but the unreserved characters of RFC 3986 are encoded, "/" too.
    return quote_from_bytes(text.encode(), safe="")
