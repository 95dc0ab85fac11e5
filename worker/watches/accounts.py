"""Watches the keys of held accounts: lets their jobs go when a key file changes, or appears."""

import asyncio

from worker.core.accounts import Accounts
from worker.core.ports import Keys
from worker.errors import JobError

_INTERVAL = 5.0
"""Seconds between two looks at the keys of the held accounts. While none is held, nothing is read."""


class AccountWatch:
    """Looks at the keys of held accounts now and then.

    Args:
        accounts: The accounts.
        keys: Their keys.
        interval: Seconds between two looks.
    """

    def __init__(self, accounts: Accounts, keys: Keys, *, interval: float = _INTERVAL) -> None:
        self._accounts = accounts
        self._keys = keys
        self._interval = interval

    async def run(self) -> None:
        """Look at the key of each held account, again and again."""
        while True:
            await asyncio.sleep(self._interval)
            for held in self._accounts.held:
                try:
                    key = await self._keys.read(held.app_id)
                except JobError:
                    # Still no key, or a directory that does not answer: the next look, or a job, finds out.
                    continue
                self._accounts.shown(held.app_id, key)
