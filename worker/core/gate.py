"""Whether the worker takes new jobs now, and if not, why."""

import asyncio


class Gate:
    """Open unless somebody has closed it for a reason; open again once every reason is gone."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._is_closed = asyncio.Event()

    @property
    def reasons(self) -> dict[str, str]:
        """Why the gate is closed: a line for each reason's name; empty when it is open."""
        return dict(self._reasons)

    @property
    def is_open(self) -> bool:
        """Whether new jobs may come in."""
        return self._is_open.is_set()

    def close(self, reason: str, detail: str) -> None:
        """Close the gate, or renew the detail of a reason that holds it closed."""
        self._reasons[reason] = detail
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
