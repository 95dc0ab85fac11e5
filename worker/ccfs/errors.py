"""Maps aiohttp's exceptions to the contract's error codes."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from schemas import ErrorCode
from worker.errors import JobError

_STALLED = "CC-FS stopped sending, or sent an error too slowly, for WORKER_CCFS__IDLE_TIMEOUT"
_NAMELESS: dict[type[Exception], str] = {ConnectionResetError: "the connection was reset"}


@contextmanager
def before_headers() -> Iterator[None]:
    """Map what can go wrong until the headers of a response are there.

    Raises:
        JobError: TIMEOUT, UPSTREAM_UNREACHABLE, or UPSTREAM_ERROR for an answer that is no HTTP.
    """
    try:
        yield
    except TimeoutError as exc:
        raise JobError(ErrorCode.TIMEOUT, f"CC-FS did not answer in time: {_words(exc)}") from exc
    except HttpProcessingError as exc:
        raise JobError(ErrorCode.UPSTREAM_ERROR, f"CC-FS did not answer valid HTTP: {exc.message}") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise JobError(ErrorCode.UPSTREAM_UNREACHABLE, f"CC-FS cannot be reached: {_words(exc)}") from exc


@contextmanager
def after_headers() -> Iterator[None]:
    """Map what can go wrong while a body is read.

    Raises:
        JobError: TIMEOUT, TRUNCATED.
    """
    try:
        yield
    except TimeoutError as exc:
        raise JobError(ErrorCode.TIMEOUT, _STALLED) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise JobError(ErrorCode.TRUNCATED, f"the body broke off: {_words(exc)}") from exc


def _words(exc: Exception) -> str:
    match exc:
        case aiohttp.ClientConnectorCertificateError(
            certificate_error=ssl.SSLCertVerificationError() as error
        ):
            return _distrust(error)
        case aiohttp.ServerDisconnectedError():
            # aiohttp's own text may hold all the headers that came.
            return "the server hung up before the headers of its answer were complete"
        case aiohttp.ConnectionTimeoutError():
            return "no connection within WORKER_CCFS__CONNECT_TIMEOUT"
        case aiohttp.SocketTimeoutError():
            return "no headers within WORKER_CCFS__IDLE_TIMEOUT"
        case _:
            return str(exc) or _NAMELESS.get(type(exc), type(exc).__name__)


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    return (
        f"its certificate is not trusted: {error.verify_message} (WORKER_CCFS__CA_FILE names whom to trust)"
    )
