"""Maps what can go wrong with a connection to the contract's error codes."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from schemas import ErrorCode
from worker.errors import JobError

_STALLED = "CC-FS stopped sending, or sent an error too slowly, for WORKER_CCFS__IDLE_TIMEOUT"


class NotHttpError(Exception):
    """What came is not HTTP, or frames its body in a way that can be read in two ways."""


class UnansweredError(ConnectionError):
    """The connection ended before the first byte of an answer."""


@contextmanager
def before_headers() -> Iterator[None]:
    """Map what can go wrong until the headers of a response are there.

    Raises:
        JobError: TIMEOUT, UPSTREAM_UNREACHABLE, or UPSTREAM_ERROR for an answer that is no HTTP.
    """
    try:
        yield
    # Before OSError, of which it is one. So is ssl.SSLError.
    except TimeoutError as exc:
        raise JobError(ErrorCode.TIMEOUT, f"CC-FS did not answer in time: {_words(exc)}") from exc
    except NotHttpError as exc:
        raise JobError(ErrorCode.UPSTREAM_ERROR, f"CC-FS did not answer valid HTTP: {exc}") from exc
    except OSError as exc:
        raise JobError(ErrorCode.UPSTREAM_UNREACHABLE, f"CC-FS cannot be reached: {_words(exc)}") from exc


@contextmanager
def after_headers() -> Iterator[None]:
    """Map what can go wrong while the body of a response is read.

    Raises:
        JobError: TIMEOUT, TRUNCATED, or UPSTREAM_ERROR when the framing of the body is broken.
    """
    try:
        yield
    except TimeoutError as exc:
        raise JobError(ErrorCode.TIMEOUT, _STALLED) from exc
    except NotHttpError as exc:
        raise JobError(ErrorCode.UPSTREAM_ERROR, f"CC-FS did not answer valid HTTP: {exc}") from exc
    except OSError as exc:
        raise JobError(ErrorCode.TRUNCATED, f"the body broke off: {_words(exc)}") from exc


def _words(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        trusted = "WORKER_CCFS__CA_FILE names whom to trust, WORKER_CCFS__TLS_SERVER_NAME under which name"
        return f"its certificate is not trusted: {exc.verify_message} ({trusted})"
    return str(exc) or type(exc).__name__
