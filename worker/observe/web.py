"""The HTTP server: `/livez`, `/readyz`, `/metrics`, `/status`, and at `/` a page that shows the status.

All of it only reads. What it shows, files and accounts in flight among it, is as public as the port. A web
page cannot read it through the browser of somebody who reaches the port, by giving its own name the worker's
address (DNS rebinding): only requests that name an address, or a name that is known here, are answered.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from ipaddress import ip_address
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from worker.observe import metrics
from worker.observe.connections import Connections
from worker.observe.status import Status

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Signal = Callable[[web.Request, web.StreamResponse], Awaitable[None]]

_MOST_CONNECTIONS = 64
_PATIENCE = 30.0
"""Seconds that a connection may last without a new answer."""
_STOP_TIMEOUT = 0.5
"""Seconds that answers under way may take once their connections are closed; aiohttp waits for them twice."""
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
async def serve(
    host: str,
    port: int,
    *,
    checks: Mapping[str, Callable[[], str]],
    render: Callable[[], bytes],
    status: Callable[[], Awaitable[Status]],
    allowed_hosts: Collection[str] = (),
    patience: float = _PATIENCE,
) -> AsyncIterator[int]:
    """Serve until left; gives the port. Leaving waits for no client.

    `/livez` answers as long as the event loop turns, and looks at nothing else: a restart cures neither
    the broker nor the storage. `/readyz` runs the named checks.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        checks: What has to be well for the worker to be ready: each gives one line that says what is
            wrong, or nothing. They only look at what is known: no I/O.
        render: Gives the metrics.
        status: Gives the status.
        allowed_hosts: The names beside `localhost` by which the server may be asked; by any address, too.
        patience: Seconds that a connection may last without a new answer.

    Raises:
        OSError: The address is taken or not ours.
    """

    def protocol() -> asyncio.Protocol:
        # The runner has a server once it is set up.
        return cast("web.Server", runner.server)()

    connections = Connections(protocol, most=_MOST_CONNECTIONS, patience=patience)
    app = _application(checks, render, status, allowed_hosts)
    app.on_response_prepare.append(_noting(connections))
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


def _application(
    checks: Mapping[str, Callable[[], str]],
    render: Callable[[], bytes],
    status: Callable[[], Awaitable[Status]],
    allowed_hosts: Collection[str],
) -> web.Application:
    app = web.Application(middlewares=[_only_asked_by(allowed_hosts)])
    app.add_routes(
        [
            web.get("/", _page()),
            web.get("/livez", _livez),
            web.get("/readyz", _readyz(checks)),
            web.get("/metrics", _metrics(render)),
            web.get("/status", _status(status)),
        ]
    )
    app.on_response_prepare.append(_add_headers)
    return app


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
    return _folded(name) in allowed or _is_address(name)


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _noting(connections: Connections) -> _Signal:
    async def note(request: web.Request, _: web.StreamResponse) -> None:
        connections.answered(request.transport)

    return note


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


async def _livez(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _readyz(checks: Mapping[str, Callable[[], str]]) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        problems = {name: check() for name, check in checks.items()}
        ready = not any(problems.values())
        body = {
            "status": "ok" if ready else "unavailable",
            "checks": {
                name: {"status": "unavailable" if problem else "ok", "detail": problem}
                for name, problem in problems.items()
            },
        }
        return web.json_response(body, status=200 if ready else 503)

    return handle


def _metrics(render: Callable[[], bytes]) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    return handle


def _status(status: Callable[[], Awaitable[Status]]) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=(await status()).to_json(), content_type="application/json")

    return handle


def _page() -> _Handler:
    text = (files(__package__) / "page.html").read_text()
    headers = {"Content-Security-Policy": content_security_policy(text)}

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="text/html", headers=headers)

    return handle


def content_security_policy(page: str) -> str:
    """Allow a page its own style and script, by their digests, and requests to where it came from."""
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
