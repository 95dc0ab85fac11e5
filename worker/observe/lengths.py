"""The lengths of the queues, asked of RabbitMQ at most every two seconds."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from worker.broker import QueueState
from worker.errors import BrokerError
from worker.observe.status import QueuesStatus

_TIMEOUT = 2.0
_MAX_AGE = 2.0
_KEPT_FOR = 60.0
"""Seconds after which a number is left out of the metrics, where nothing shows its age."""
_PAUSE = 10.0
"""Seconds before the next request to RabbitMQ when it did not answer one."""


class Lengths:
    """Asks for the lengths of the queues, one request at a time; no reader waits longer than the timeout.

    Concurrent readers share a request. The next one is sent two seconds after an answer, ten after a timeout;
    until then readers get the last numbers, with their age.

    Args:
        ask: Asks RabbitMQ for the state of each queue. May raise BrokerError.
    """

    def __init__(self, ask: Callable[[], Awaitable[dict[str, QueueState]]]) -> None:
        self._ask = ask
        self._request: asyncio.Task[None] | None = None
        self._ready: dict[str, int] = {}
        self._unknown: dict[str, str] = {}
        self._answered_at = -math.inf
        self._next_at = -math.inf

    @property
    def lately(self) -> dict[str, int]:
        """The last numbers, unless they are older than a minute. This sends no request."""
        age = asyncio.get_running_loop().time() - self._answered_at
        return self._ready if age <= _KEPT_FOR else {}

    async def read(self) -> QueuesStatus:
        """The newest numbers that RabbitMQ gives within the timeout."""
        now = asyncio.get_running_loop().time
        if self._request is None and now() >= self._next_at:
            self._request = asyncio.create_task(self._send())
            self._next_at = now() + _TIMEOUT
        if self._request is not None:
            # Not awaited: a request whose channel is being closed may outlast its own timeout.
            await asyncio.wait({self._request}, timeout=max(0, self._next_at - now()))
        age = now() - self._answered_at
        return QueuesStatus(
            ready=self._ready, unknown=self._unknown, age_seconds=None if math.isinf(age) else round(age, 1)
        )

    async def _send(self) -> None:
        now = asyncio.get_running_loop().time
        pause = _MAX_AGE
        try:
            async with asyncio.timeout(_TIMEOUT):
                states = await self._ask()
                self._answered_at = now()
        except BrokerError:
            # Raised without delay when there is no session; the check `broker` has the reason.
            pass
        except TimeoutError:
            pause = _PAUSE
        else:
            self._ready = {name: state.messages for name, state in states.items() if not state.unknown}
            self._unknown = {name: state.unknown for name, state in states.items() if state.unknown}
        finally:
            self._request, self._next_at = None, now() + pause
