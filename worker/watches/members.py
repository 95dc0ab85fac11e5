"""Watches the members of the queues by RabbitMQ's management API, where that is given."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping

import structlog

from worker.broker.management import QueueView
from worker.errors import BrokerError

_INTERVAL = 60.0
"""Seconds between two questions, on average: many workers ask the same."""
_KEPT_FOR = 300.0
"""Seconds for which the last numbers count when there is no answer."""

log = structlog.stdlib.get_logger(__name__)


class MemberWatch:
    """Asks now and then how many members each queue has, and how many of them run.

    Nothing waits for it and nothing depends on it. A failure is logged once, until there is an answer again.

    Args:
        ask: Gives what is known of each queue, within a bound of its own. May raise BrokerError. None where
            there is no management API.
        interval: Seconds between two questions, on average.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[Mapping[str, QueueView]]] | None, *, interval: float = _INTERVAL
    ) -> None:
        self._ask = ask
        self._interval = interval
        self._views: Mapping[str, QueueView] = {}
        self._answered_at = -math.inf
        self._problem = ""

    @property
    def lately(self) -> Mapping[str, tuple[int, int]]:
        """By queue, how many members it has and how many of them run; empty without a recent answer."""
        if asyncio.get_running_loop().time() - self._answered_at > _KEPT_FOR:
            return {}
        return {
            name: (len(view.members), len(view.members) - len(view.offline))
            for name, view in self._views.items()
            if view.members
        }

    async def run(self) -> None:
        """Ask again and again."""
        while self._ask is not None:
            try:
                self._views = await self._ask()
            except BrokerError as exc:
                self._failed(str(exc))
            else:
                self._answered()
            await asyncio.sleep(self._interval * random.uniform(0.5, 1.5))

    def _failed(self, reason: str) -> None:
        if not self._problem:
            log.warning("broker.members_unknown", reason=reason)
        self._problem = reason

    def _answered(self) -> None:
        if self._problem:
            log.info("broker.members_known")
        self._problem = ""
        self._answered_at = asyncio.get_running_loop().time()
