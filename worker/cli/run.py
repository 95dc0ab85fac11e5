"""`ccfs-worker run`: the worker itself."""

import asyncio

from worker import app, settings
from worker.observe import logs
from worker.runtime import bound_arenas, loop_factory, spare_startup
from worker.watches import descriptors


def run() -> None:
    """Run the worker until SIGTERM, SIGINT or SIGHUP; settings come from WORKER_… variables.

    It has no --output: all it writes is its log, which is JSON lines unless WORKER_LOG__FORMAT is console.
    """
    bound_arenas()
    descriptors.raise_limit()
    loaded = settings.load()
    logs.configure(level=loaded.log.level, json=loaded.log.format == "json")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        spare_startup()
        runner.run(app.run(loaded))
