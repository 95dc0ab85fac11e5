"""The event loop that the commands run on."""

import asyncio
from importlib.util import find_spec


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """The class of uvloop's loop where the platform has it, else None for asyncio's own."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - not on every platform

    return uvloop.Loop
