"""What is measured: the experiments, each a set of entrants that take turns."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench import curl, files, floor, lone, sample
from bench.contestants import (
    BY_AIORMQ,
    BY_SESSION,
    CELERY,
    DRAMATIQ,
    EARLIER,
    OBVIOUS,
    OURS,
    PEERS,
    UNLISTED,
    Contestant,
)
from bench.lab import Lab
from bench.payload import HUGE, LARGE, MANY, MEDIUM, SMALL
from bench.queues import Queues
from bench.sample import Figures
from bench.setting import Setting, Volume

BARE = Contestant(name="bare aio-pika", command=(sys.executable, "-m", "bench.roundtrip"))
CURL_PARALLEL = "curl -Z"
CURL_THEN_HASH = "curl, then sha256sum"
FLOOR = "the floor"

Take = Callable[[Lab, Queues], Awaitable[Figures]]


@dataclass(frozen=True, slots=True)
class Entrant:
    """One of those that take turns.

    Attributes:
        name: Its row in the report.
        take: Takes one sample of it.
    """

    name: str
    take: Take


@dataclass(frozen=True, slots=True)
class Experiment:
    """A table of the report.

    Attributes:
        key: Its name in the results.
        title: Its heading.
        entrants: Its rows.
        headline: The figure that its plot shows.
    """

    key: str
    title: str
    entrants: tuple[Entrant, ...]
    headline: str = "jobs_per_second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        small: Jobs of 20 KiB in a sample.
        medium: Jobs of 4 MiB.
        large: Jobs of 512 MiB.
        lone: Jobs one after another.
        shallow: Jobs in a queue that is not deep.
        deep: Jobs in a deep queue.
        rounds: Samples of each entrant.
        whole: Also what takes long and changes the picture little: the slower peers on files of 4 MiB, the
            limits of the file systems and of curl.
    """

    small: int
    medium: int
    large: int
    lone: int
    shallow: int
    deep: int
    rounds: int
    whole: bool


QUICK = Sizes(small=800, medium=60, large=2, lone=200, shallow=1000, deep=50_000, rounds=5, whole=False)
FULL = Sizes(small=5000, medium=300, large=6, lone=500, shallow=1000, deep=50_000, rounds=5, whole=True)


def experiments(sizes: Sizes) -> Sequence[Experiment]:
    """Everything that a run measures, in the order of the report: over TLS as CC-FS is, then plain."""
    limits = _limits(sizes) if sizes.whole else ()
    return (
        *_small(sizes),
        *_bulk(sizes),
        *_libraries(sizes),
        _entries(sizes),
        *_growth(sizes),
        _lone(sizes),
        *limits,
    )


def headline_ratios(sizes: Sizes) -> Sequence[Experiment]:
    """The few ratios that show whether the worker became slower."""
    small, medium, large = _over_tls(sizes)
    return (
        Experiment("S", "S over TLS", _workers(small, OURS, OBVIOUS)),
        Experiment("M", "M over TLS", (*_workers(medium, OURS, OBVIOUS), _floor(medium))),
        Experiment("L", "L over TLS", (*_workers(large, OURS), _then_hash(large), _floor(large))),
    )


def _over_tls(sizes: Sizes) -> tuple[Setting, Setting, Setting]:
    """S, M and L: over TLS, as CC-FS is."""
    return (
        Setting(payload=SMALL, jobs=sizes.small),
        Setting(payload=MEDIUM, jobs=sizes.medium, concurrency=8),
        Setting(payload=LARGE, jobs=sizes.large, concurrency=2, volume=Volume.DISK),
    )


def _small(sizes: Sizes) -> Sequence[Experiment]:
    small, _, _ = _over_tls(sizes)
    plain, on_disk = replace(small, tls=False), replace(small, volume=Volume.DISK)
    return (
        Experiment("S", "S: 20 KiB, TLS, RAM file system", _workers(small, BARE, OURS, EARLIER, *PEERS)),
        Experiment("S-disk", "S: 20 KiB, TLS, disk", _workers(on_disk, OURS, OBVIOUS)),
        Experiment("S-plain", "S: 20 KiB, plain HTTP, RAM file system", _workers(plain, OURS, EARLIER)),
    )


def _bulk(sizes: Sizes) -> Sequence[Experiment]:
    _, medium, large = _over_tls(sizes)
    medium_plain = replace(medium, tls=False)
    large_plain = replace(large, tls=False, volume=Volume.RAM)
    # Those whose threads receive by themselves are the quickest with large files.
    peers = PEERS if sizes.whole else (CELERY, DRAMATIQ)
    return tuple(
        Experiment(key, title, entrants, "mb_per_second")
        for key, title, entrants in (
            (
                "M",
                "M: 4 MiB, TLS, RAM file system; curl neither hashes nor syncs",
                (
                    *_workers(medium, OURS, EARLIER, *peers),
                    _curl(CURL_PARALLEL, curl.parallel, medium),
                    _floor(medium),
                ),
            ),
            (
                "L",
                "L: 512 MiB, TLS, disk with fsync",
                (*_workers(large, OURS, EARLIER, DRAMATIQ), _then_hash(large), _floor(large)),
            ),
            ("M-plain", "M: 4 MiB, plain HTTP, RAM file system", _workers(medium_plain, OURS, EARLIER)),
            ("L-plain", "L: 512 MiB, plain HTTP, RAM file system", _workers(large_plain, OURS, EARLIER)),
        )
    )


def _libraries(sizes: Sizes) -> Sequence[Experiment]:
    """What it gains to go past a library: each can be put back in."""
    small, medium, _ = _over_tls(sizes)
    return (
        Experiment(
            "S-libraries",
            "S: 20 KiB, TLS, RAM file system, with what is ours or the library's",
            _workers(small, OURS, BY_AIORMQ, BY_SESSION),
            "cpu_per_1000_jobs",
        ),
        Experiment(
            "M-libraries",
            "M: 4 MiB, TLS, RAM file system, with what is ours or the library's",
            _workers(medium, OURS, BY_AIORMQ, BY_SESSION),
            "cpu_per_gib",
        ),
    )


def _entries(sizes: Sizes) -> Experiment:
    small, medium, _ = _over_tls(sizes)
    return Experiment(
        "entries",
        "The list of a zip's entries in the event, over TLS, RAM file system",
        tuple(
            replace(_worker(contestant, setting), name=f"{name}, {listed}")
            for name, setting in (
                ("20 KiB", small),
                ("20 KiB of 32 entries", replace(small, payload=MANY)),
                ("4 MiB", medium),
            )
            for contestant, listed in ((OURS, "listed"), (UNLISTED, "not listed"))
        ),
        "cpu_per_1000_jobs",
    )


def _growth(sizes: Sizes) -> Sequence[Experiment]:
    setting = Setting(payload=SMALL, jobs=sizes.shallow)
    return (
        Experiment(
            "concurrency",
            "The worker's concurrency: S, TLS, RAM file system",
            tuple(
                _ours(
                    f"{concurrency} concurrent", replace(setting, concurrency=concurrency, jobs=sizes.small)
                )
                for concurrency in (1, 8, 32, 128, 512)
            ),
        ),
        Experiment(
            "depth",
            "The queue's depth: S, TLS, RAM file system",
            tuple(
                _ours(f"{depth} queued", replace(setting, depth=depth))
                for depth in (sizes.shallow, sizes.deep)
            ),
        ),
        Experiment(
            "memory",
            "Memory, over TLS",
            (
                _ours("1 GiB, alone", Setting(payload=HUGE, jobs=1, concurrency=1)),
                *(
                    _ours(
                        f"4 MiB, {concurrency} concurrent",
                        Setting(payload=MEDIUM, jobs=sizes.medium, concurrency=concurrency),
                    )
                    for concurrency in (8, 128)
                ),
                _ours("20 KiB, 128 concurrent", replace(setting, concurrency=128)),
            ),
            "peak_mib",
        ),
    )


def _lone(sizes: Sizes) -> Experiment:
    alone = Setting(payload=SMALL, jobs=sizes.lone, concurrency=1, tls=False)
    return Experiment(
        "lone",
        "One job of 20 KiB on an idle worker, and its parts measured alone",
        (
            Entrant("a job", lambda lab, queues: lone.job(lab, queues, alone)),
            Entrant("its parts", lambda lab, queues: lone.parts(lab, queues, alone)),
        ),
        "p50_ms",
    )


def _limits(sizes: Sizes) -> Sequence[Experiment]:
    written = Setting(payload=SMALL, jobs=sizes.small, concurrency=8)
    large = Setting(payload=LARGE, jobs=sizes.large, concurrency=2, volume=Volume.DISK)
    return (
        Experiment(
            "files",
            "Files of 20 KiB made durable from eight threads",
            tuple(
                Entrant(volume, partial(_files, setting=replace(written, volume=volume))) for volume in Volume
            ),
        ),
        Experiment(
            "curl",
            "curl, two at a time: files of 512 MiB",
            (
                _curl("to disk, durable, TLS", curl.to_file, large),
                _curl("to disk, durable, plain", curl.to_file, replace(large, tls=False)),
                _curl("to sha256sum, plain", curl.to_hash, replace(large, tls=False)),
            ),
            "mb_per_second",
        ),
    )


async def _files(lab: Lab, _: Queues, *, setting: Setting) -> Figures:
    return await files.durable(lab, setting)


def _ours(name: str, setting: Setting) -> Entrant:
    return replace(_worker(OURS, setting), name=name)


def _workers(setting: Setting, *contestants: Contestant) -> tuple[Entrant, ...]:
    return tuple(_worker(contestant, setting) for contestant in contestants)


def _worker(contestant: Contestant, setting: Setting) -> Entrant:
    async def take(lab: Lab, queues: Queues) -> Figures:
        return await sample.take(lab, queues, contestant, setting)

    return Entrant(contestant.name, take)


def _curl(name: str, fetch: Callable[[Lab, Setting], Awaitable[Figures]], setting: Setting) -> Entrant:
    async def take(lab: Lab, _: Queues) -> Figures:
        return await fetch(lab, setting)

    return Entrant(name, take)


def _then_hash(setting: Setting) -> Entrant:
    return _curl(CURL_THEN_HASH, curl.then_hash, setting)


def _floor(setting: Setting) -> Entrant:
    async def take(lab: Lab, _: Queues) -> Figures:
        return floor.take(lab, setting)

    return Entrant(FLOOR, take)
