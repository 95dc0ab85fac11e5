"""Connections kept between requests, and the two hazards of that."""

import ssl
from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import WeakSet

import aiohttp

from worker.ccfs.takeover import OpenTls

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


_is_reused: ContextVar[bool] = ContextVar("is_reused", default=False)


class Connector(aiohttp.TCPConnector):
    """A pool that gives out no connection on which something came unasked.

    aiohttp would take such bytes, say a late second answer, for the answer to the next request: one
    job's file would be stored under another's name.

    Args:
        tls: How to verify the server; None takes the system's authorities.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        # Their number is not bounded here: the worker's concurrency is the bound.
        super().__init__(limit=0, ssl=tls or True)
        if tls is not None:
            tls.sslobject_class = OpenTls
        self._known: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: "list[Trace]", timeout: aiohttp.ClientTimeout
    ) -> "Connection":
        """Give a connection from the pool, or a new one."""
        _is_reused.set(False)
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._known or not protocol.should_close:
                break
            connection.close()
        if protocol is not None:
            _is_reused.set(protocol in self._known)
            self._known.add(protocol)
        return connection


def is_reused() -> bool:
    """Whether the last request of the current task went out on a connection that had served another before.

    Such a connection may have been closed by the server just then (RFC 9112, section 9.3.1); its failure
    says nothing about the server.
    """
    return _is_reused.get()
