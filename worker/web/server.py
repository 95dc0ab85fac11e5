"""The HTTP server: `/livez`, `/readyz`, `/metrics`, `/status`, and at `/` a page that shows the status.

All of it only reads. What it shows, files and accounts in flight among it, is as public as the port.
"""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files

from aiohttp import web

from worker import metrics
from worker.status import Status

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

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
) -> AsyncIterator[int]:
    """Serve until left; gives the port.

    `/livez` answers as long as the event loop turns, and looks at nothing else: a restart cures neither
    the broker nor the storage. `/readyz` runs the named checks.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        checks: What has to be well for the worker to be ready: each gives one line that says what is
            wrong, or nothing. They only look at what is known: no I/O.
        render: Gives the metrics.
        status: Gives the status.

    Raises:
        OSError: The address is taken or not ours.
    """
    app = web.Application()
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
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


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
