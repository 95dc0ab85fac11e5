"""A file on its way, received by threads."""

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Incoming(Protocol):
    """Bytes of known number that threads receive; the event loop only waits for them."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to receive."""
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait, on the event loop, until there is something to receive, and hold the right to."""
        ...

    def receive(self, use: Callable[[memoryview], object], stop: threading.Event) -> None:
        """Receive some on a thread and hand them on; a block is valid until `use` returns."""
        ...


async def no_takeover() -> None:
    """The takeover of a stream that cannot be received by threads."""
