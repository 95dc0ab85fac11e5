"""An installation whose workers run in a machine. Broker, CC-FS and upstream run outside of it."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from urllib.parse import urlsplit

from devkit.demo.ledger import Counts, Ledger
from tests.installation import Site, bill
from tests.vm.disk import Disk
from tests.vm.machine import GATEWAY, Machine

DATA = "/data"
"""Where the machine mounts its storage."""
TIERS = (1.0, 2.0, 5.0)
BOUND = 400.0
"""Seconds within which every job has its outcome, once nothing goes wrong any more."""
_KEYS = "/run/keys"
_SAME_FILE_EACH = 25


@dataclass
class GuestLedger(Ledger):
    """The account of a storage root in a machine.

    Attributes:
        found: What `Machine.digests` said last.
    """

    found: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """What was found last."""
        return dict(self.found)


@dataclass
class Lab:
    """An installation with a machine.

    Attributes:
        site: The broker, CC-FS and the upstream.
        disk: The machine's disk.
        ledger: The site's.
    """

    site: Site
    disk: Disk
    ledger: GuestLedger = field(init=False)
    _jobs: Iterator[tuple[str, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = self.site.ledger = GuestLedger(Path(DATA), self.site.simulator.digest)
        self._jobs = ((f"job-{number:04d}", self._body(number)) for number in count())

    def machine(self) -> Machine:
        """The machine, without power yet."""
        return Machine(self.disk, self.site.folder / "machine")

    async def prepare(self, machine: Machine) -> None:
        """Give the machine the accounts' keys."""
        keys = {file.name: file.read_text().strip() for file in self.site.keys.iterdir()}
        written = "\n".join(f"printf %s '{key}' > {_KEYS}/{name}" for name, key in keys.items())
        await machine.sh(f"mkdir -p {_KEYS}\n{written}\nchmod 644 {_KEYS}/*")

    async def start_worker(
        self, machine: Machine, name: str = "worker", *, before: str = "", **changes: str
    ) -> int:
        """Start a worker in the machine; gives its process id."""
        outside = {
            "AMQP__URL": _from_inside(self.site.own_url),
            "AMQP__DELIVERY_LIMIT": "100",
            "CCFS__BASE_URL": _from_inside(self.site.simulator.url),
            "CREDENTIALS__DIR": _KEYS,
            "STORAGE__ROOT": DATA,
            "HTTP__HOST": "127.0.0.1",
            "RETRY__DELAYS": json.dumps(TIERS),
            "LOG__LEVEL": "INFO",
        }
        return await machine.worker(name, self.site.settings(**(outside | changes)), before=before)

    async def publish(self, number: int) -> None:
        """Publish jobs that were not there before; now and then two are for the same file."""
        await self.site.publish_raw(list(islice(self._jobs, number)))

    async def publish_twice(self, number: int) -> None:
        """Publish jobs that were not there before, each beside another for the same file."""
        for name, body in islice(self._jobs, number):
            await self.site.publish_raw([(name, body), (f"{name}-again", body)])

    async def publish_again(self, number: int) -> None:
        """Publish the first jobs again, each under two new ids."""
        for which in range(number):
            body = self._body(which)
            await self.site.publish_raw([(f"job-{which:04d}-{again}", body) for again in ("third", "fourth")])

    @property
    def attempts(self) -> set[int]:
        """How many attempts the jobs took."""
        return {event.attempts for events in self.ledger.outcomes.values() for event in events}

    async def outcomes(self, number: int) -> None:
        """Wait for that many further outcomes."""
        wanted = len(self.ledger.outcomes) + number
        await self.site.until(lambda: len(self.ledger.outcomes) >= wanted, BOUND)

    async def settled(self) -> None:
        """Wait until every job has its outcome."""
        await self.site.until(lambda: not self.ledger.open_jobs, BOUND)

    async def judge(self, machine: Machine, root: str = DATA) -> Counts:
        """Read every file, and count."""
        self.ledger.found = await machine.digests(root)
        return await asyncio.to_thread(self.ledger.counts)

    def _body(self, number: int) -> bytes:
        return self.site.body(bill(number - 1 if number % _SAME_FILE_EACH == 1 else number))


def _from_inside(url: str) -> str:
    """The address of something on the host's loopback, as the machine reaches it."""
    return url.replace(urlsplit(url).hostname or "", GATEWAY, 1)
