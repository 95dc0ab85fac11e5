"""The HTTP server of probes and metrics: `/livez`, `/readyz`, `/metrics`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from worker import metrics

Check = Callable[[], str]
"""Gives an empty string when all is well, otherwise one line that says what is wrong."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(
    host: str, port: int, *, checks: Mapping[str, Check], render: Callable[[], bytes]
) -> AsyncIterator[int]:
    """Serve until left; gives the port.

    `/livez` answers as long as the event loop turns, and looks at nothing else: a restart cures neither
    the broker nor the storage. `/readyz` runs the named checks.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        checks: What has to be well for the worker to be ready. They only look at what is known: no I/O.
        render: Gives the metrics.

    Raises:
        OSError: The address is taken or not ours.
    """
    app = web.Application()
    app.add_routes(
        [
            web.get("/livez", _livez),
            web.get("/readyz", _readyz(checks)),
            web.get("/metrics", _metrics(render)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _livez(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _readyz(checks: Mapping[str, Check]) -> _Handler:
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
