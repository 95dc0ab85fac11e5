"""Whether the worker takes new jobs now, and if not, why."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime


class Gate:
    """Open unless somebody has closed it for a reason; open again once every reason is gone.

    Args:
        clock: Gives the time, UTC.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._reasons: dict[str, tuple[str, datetime]] = {}
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._is_closed = asyncio.Event()

    @property
    def reasons(self) -> dict[str, str]:
        """Why the gate is closed: a line for each reason's name; empty when it is open."""
        return {reason: detail for reason, (detail, _) in self._reasons.items()}

    @property
    def since(self) -> dict[str, datetime]:
        """Since when each reason has held the gate closed."""
        return {reason: since for reason, (_, since) in self._reasons.items()}

    @property
    def is_open(self) -> bool:
        """Whether new jobs may come in."""
        return self._is_open.is_set()

    def close(self, reason: str, detail: str) -> None:
        """Close the gate, or renew the detail of a reason that holds it closed."""
        _, since = self._reasons.get(reason, ("", self._clock()))
        self._reasons[reason] = detail, since
        self._is_open.clear()
        self._is_closed.set()

    def open(self, reason: str) -> None:
        """Take back one reason."""
        self._reasons.pop(reason, None)
        if not self._reasons:
            self._is_closed.clear()
            self._is_open.set()

    async def wait_open(self) -> None:
        """Wait until nothing holds the gate closed."""
        await self._is_open.wait()

    async def wait_closed(self) -> None:
        """Wait until something closes the gate."""
        await self._is_closed.wait()
