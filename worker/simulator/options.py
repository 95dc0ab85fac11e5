"""How a simulator is set up."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from random import Random

from worker.simulator.bills import MIN_BILL_BYTES, Bill, Packing, make_bill
from worker.simulator.fault_specs import FaultRate
from worker.simulator.faults import Fault
from worker.simulator.requests import AnsweredRequest


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, drawn log-uniformly: each order of magnitude is equally likely.

    Attributes:
        low: The smallest; above 0 if there is a larger one.
        high: The largest; None if every draw gives `low`.
        weight: How often this range is drawn, relative to others.
    """

    low: float
    high: float | None = None
    weight: float = 1.0

    def draw(self, random: Random) -> float:
        """Draw a number."""
        if self.high is None or self.high == self.low:
            return self.low
        return float(min(self.high, self.low * (self.high / self.low) ** random.random()))


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """How a simulator is set up.

    Attributes:
        keys: The key directory, one file per appId, as the worker's own.
        host: The address to listen on.
        port: The port; 0 takes a free one, and keeps it over a stop and a start.
        plain: HTTP instead of HTTPS.
        names: Host names and addresses that the certificate is for.
        state: Where the certificate is kept; None keeps it only as long as the simulator.
        max_skew: Seconds that a request's time may differ from `clock`.
        clock: Gives the time, timezone-aware.
        host_header: The Host that requests must have; None takes any.
        sizes: The sizes of files in bytes.
        packing: How the files inside the zips are packed.
        missing: Shell patterns of file names that do not exist: 0300011.
        seed: Another seed gives other files, sizes and faults.
        latency: Seconds before an answer.
        bandwidth: Bytes per second of each answer; None for no limit.
        downloads_per_app: Concurrent downloads of one account; others get 0300008. None for no limit.
        faults: What goes wrong, and how often. Which requests it hits depends on nothing but the seed, the
            file and the number of its requests.
        history: How many of the last requests are kept; None for all.
        on_answer: Called with each answer before it is sent.
    """

    keys: Path
    host: str = "127.0.0.1"
    port: int = 0
    plain: bool = False
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    state: Path | None = None
    max_skew: float = 900.0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    host_header: str | None = None
    sizes: tuple[Range, ...] = (Range(64 * 1024),)
    packing: Packing = Packing.DEFLATED
    missing: tuple[str, ...] = ()
    seed: int = 0
    latency: Range = Range(0)
    bandwidth: float | None = None
    downloads_per_app: int | None = None
    faults: tuple[FaultRate, ...] = ()
    history: int | None = None
    on_answer: Callable[[AnsweredRequest], None] = lambda _: None

    def __post_init__(self) -> None:
        if any(size.low < MIN_BILL_BYTES for size in self.sizes):
            raise ValueError(f"sizes must be {MIN_BILL_BYTES} bytes or more")
        if sum(fault.rate for fault in self.faults) > 1:
            raise ValueError("the rates of all faults together must not exceed 1")

    def bill(self, app_id: str, bill_file_name: str, *, sound: bool = True) -> Bill:
        """The file as it is served; with a wrong CRC unless `sound`."""
        return make_bill(
            app_id,
            bill_file_name,
            size_bytes=self.size_of(app_id, bill_file_name),
            seed=self.seed,
            packing=self.packing,
            sound=sound,
        )

    def digest(self, app_id: str, bill_file_name: str) -> str:
        """The SHA-256 of a file in lower-case hex; blocks for about a second per gigabyte."""
        return self.bill(app_id, bill_file_name).sha256()

    def fault_of(self, app_id: str, bill_file_name: str, count: int) -> Fault | None:
        """The fault of the `count`-th request for a file, from 1; None for a good answer."""
        if not self.faults:
            return None
        drawn = Random(f"fault/{self.seed}/{app_id}/{bill_file_name}/{count}").random()
        reached = accumulate(fault.rate for fault in self.faults)
        return next(
            (fault.fault for fault, end in zip(self.faults, reached, strict=True) if drawn < end), None
        )

    def size_of(self, app_id: str, bill_file_name: str) -> int:
        """The size of a file in bytes."""
        random = Random(f"size/{self.seed}/{app_id}/{bill_file_name}")
        chosen = random.choices(self.sizes, [size.weight for size in self.sizes])[0]
        return round(chosen.draw(random))
