"""The setting of a sample: which files, how many, to which volume, and how."""

from dataclasses import dataclass
from enum import StrEnum

from bench.payload import Payload


class Volume(StrEnum):
    """The file system that the files go to."""

    RAM = "RAM"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One cell of the benchmark.

    Attributes:
        payload: The files.
        jobs: How many are measured.
        volume: Where they go.
        tls: Whether they come over TLS.
        concurrency: Concurrent jobs.
        depth: Jobs in the queue at the start, if more than are measured.
    """

    payload: Payload
    jobs: int
    volume: Volume = Volume.RAM
    tls: bool = True
    concurrency: int = 32
    depth: int = 0

    @property
    def warm_up(self) -> int:
        """Small jobs that are done before the clock starts: every slot, connection and import is warm."""
        return max(self.jobs // 10, 2 * self.concurrency)

    @property
    def queued(self) -> int:
        """Jobs of the payload that are put into the queue."""
        return max(self.jobs, self.depth)

    @property
    def total_bytes(self) -> int:
        """Bytes of the measured files."""
        return self.jobs * self.payload.size
