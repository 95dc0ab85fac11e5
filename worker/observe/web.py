"""The HTTP server: `/livez`, `/readyz`, `/metrics`, `/status`, and at `/` a page that shows the status.

The server changes nothing. What it shows, with the files and accounts in flight, is as public as its port.
DNS rebinding does not work: a web page that gives its own name the worker's address gets no answer through
the browser of somebody who reaches the port. Only requests to an address or a known name are answered.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from worker.observe import metrics
from worker.observe.connections import Connections
from worker.observe.status import Status

_MOST_CONNECTIONS = 64
_PATIENCE = 30.0
"""Seconds that a connection may last without a new answer."""
_STOP_TIMEOUT = 0.5
"""Seconds for handlers to end after their connections are closed. aiohttp waits this long twice."""
_MISDIRECTED = 421
"""RFC 9110, section 15.5.20."""
_REFUSAL = "ask by an address, as localhost, or by a name that WORKER_HTTP__ALLOWED_HOSTS has\n"
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@asynccontextmanager
async def serve(  # noqa: PLR0913 - most of them are what the pages show, each with a name of its own
    host: str,
    port: int,
    *,
    checks: Mapping[str, Callable[[], str]],
    render: Callable[[], bytes],
    status: Callable[[], Awaitable[Status]],
    ailment: Callable[[], str] = lambda: "",
    allowed_hosts: Collection[str] = (),
    patience: float = _PATIENCE,
) -> AsyncIterator[int]:
    """Serve until the context ends; yields the port. Leaving waits for no client.

    `/livez` answers while the event loop runs, and looks at the ailment alone: a restart would mend neither
    the broker nor the storage. `/readyz` runs the named checks.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        checks: What makes the worker ready, by name. Each gives one line that says what is wrong, or an
            empty string. They do no I/O.
        render: Gives the metrics.
        status: Gives the status.
        ailment: Gives one line that says why this process is to be ended, or an empty string. Does no I/O.
        allowed_hosts: Names under which the server answers, besides `localhost` and every address.
        patience: Seconds that a connection may last without a new answer.

    Raises:
        OSError: The address is taken, or not one of this host.
    """

    def protocol() -> asyncio.Protocol:
        # The runner has a server once it is set up.
        return cast("web.Server", runner.server)()

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        connections.answered(request.transport)

    connections = Connections(protocol, most=_MOST_CONNECTIONS, patience=patience)
    app = web.Application(middlewares=[_only_asked_by(allowed_hosts)])
    app.add_routes(_Answers(checks, render, status, ailment).routes())
    app.on_response_prepare.append(prepare)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_TIMEOUT)
    await runner.setup()
    try:
        server = await asyncio.get_running_loop().create_server(connections, host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            connections.close()
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class _Answers:
    checks: Mapping[str, Callable[[], str]]
    render: Callable[[], bytes]
    report: Callable[[], Awaitable[Status]]
    ailment: Callable[[], str]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/status", self.status),
        ]

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html", headers=_PAGE_HEADERS)

    async def livez(self, _: web.Request) -> web.Response:
        if problem := self.ailment():
            return web.json_response({"status": "unavailable", "detail": problem}, status=503)
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        problems = {name: check() for name, check in self.checks.items()}
        ready = not any(problems.values())
        body = {
            "status": "ok" if ready else "unavailable",
            "checks": {
                name: {"status": "unavailable" if problem else "ok", "detail": problem}
                for name, problem in problems.items()
            },
        }
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def status(self, _: web.Request) -> web.Response:
        return web.Response(body=(await self.report()).to_json(), content_type="application/json")


def _only_asked_by(names: Collection[str]) -> Middleware:
    allowed = {"localhost", *(_folded(name) for name in names)}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if all(_is_ours(host, allowed) for host in request.headers.getall("Host", [])):
            return await handler(request)
        return web.Response(status=_MISDIRECTED, text=_REFUSAL)

    return check


def _is_ours(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host (RFC 9110, section 7.2) is an address or an allowed name."""
    found = _AUTHORITY.fullmatch(host)
    if found is None:
        return False
    name = found["ipv6"] or found["name"]
    if _folded(name) in allowed:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")


def content_security_policy(page: str) -> str:
    """Allow a page its own style and script, by their digests, and requests to its own origin."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_digest(page, 'style')}",
            f"script-src {_digest(page, 'script')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _digest(page: str, element: str) -> str:
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


_PAGE = (files(__package__) / "page.html").read_text()
_PAGE_HEADERS = {"Content-Security-Policy": content_security_policy(_PAGE)}
