"""What is measured: the experiments, each a set of entrants that take turns."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench import curl, files, lone, sample
from bench.contestants import CELERY, DRAMATIQ, FASTSTREAM, OBVIOUS, OURS, PEERS, Contestant
from bench.lab import Lab
from bench.payload import HUGE, LARGE, MEDIUM, SMALL
from bench.queues import Queues
from bench.sample import Figures
from bench.setting import Setting, Volume

BARE = Contestant(name="bare aio-pika", command=(sys.executable, "-m", "bench.roundtrip"))
CURL_PARALLEL = "curl -Z"
CURL_THEN_HASH = "curl, then sha256sum"

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
        whole: Also what takes long and changes the picture little: small files over TLS, the slower peers on
            large files, the limits of the file systems and of curl.
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
    """Everything that a run measures, in the order of the report."""
    limits = _limits(sizes) if sizes.whole else ()
    return (*_small(sizes), *_bulk(sizes), *_growth(sizes), _lone(sizes), *limits)


def headline_ratios(sizes: Sizes) -> Sequence[Experiment]:
    """The few that tell whether the worker became slower."""
    setting = Setting(payload=SMALL, jobs=sizes.small)
    return (Experiment("S-ram", "S on RAM", _workers(setting, BARE, OURS, OBVIOUS)),)


def _small(sizes: Sizes) -> Sequence[Experiment]:
    setting = Setting(payload=SMALL, jobs=sizes.small)
    on_disk = replace(setting, volume=Volume.DISK)
    over_tls = replace(setting, tls=True)
    return (
        Experiment("S-ram", "S: 20 KiB, RAM file system, plain HTTP", _workers(setting, BARE, OURS, *PEERS)),
        Experiment("S-disk", "S: 20 KiB, disk, plain HTTP", _workers(on_disk, OURS, OBVIOUS, FASTSTREAM)),
        *(
            (Experiment("S-tls", "S: 20 KiB, RAM file system, TLS", _workers(over_tls, OURS, OBVIOUS)),)
            if sizes.whole
            else ()
        ),
    )


def _bulk(sizes: Sizes) -> Sequence[Experiment]:
    medium = Setting(payload=MEDIUM, jobs=sizes.medium, concurrency=8)
    medium_tls = replace(medium, tls=True)
    large = Setting(payload=LARGE, jobs=sizes.large, concurrency=2)
    unhashed = replace(large, hashing=False)
    large_tls = replace(large, tls=True, volume=Volume.DISK)
    stream = Setting(payload=HUGE, jobs=1, concurrency=1, hashing=False)
    # Those whose threads receive by themselves are the quickest with large files.
    peers = PEERS if sizes.whole else (CELERY, DRAMATIQ)
    return tuple(
        Experiment(key, title, entrants, "mb_per_second")
        for key, title, entrants in (
            ("M-ram", "M: 4 MiB, RAM file system, plain HTTP, hashing", _workers(medium, OURS, *PEERS)),
            (
                "M-tls",
                "M: 4 MiB, RAM file system, TLS; curl neither hashes nor syncs",
                (*_workers(medium_tls, OURS), _curl(CURL_PARALLEL, curl.parallel, medium_tls)),
            ),
            ("L-ram", "L: 512 MiB, RAM file system, plain HTTP, hashing", _workers(large, OURS, *peers)),
            (
                "L-unhashed",
                "L: 512 MiB, RAM file system, plain HTTP, hashing off for all",
                (_curl(CURL_PARALLEL, curl.parallel, unhashed), *_workers(unhashed, OURS, *peers)),
            ),
            (
                "L-tls-disk",
                "L: 512 MiB, disk with fsync, TLS, SHA-256",
                (*_workers(large_tls, OURS), _curl(CURL_THEN_HASH, curl.then_hash, large_tls)),
            ),
            (
                "stream",
                "One stream of 1 GiB, RAM file system, plain HTTP, hashing off for both",
                (*_workers(stream, OURS), _curl(CURL_PARALLEL, curl.parallel, stream)),
            ),
        )
    )


def _growth(sizes: Sizes) -> Sequence[Experiment]:
    setting = Setting(payload=SMALL, jobs=sizes.shallow)
    return (
        Experiment(
            "concurrency",
            "The worker's concurrency: S, RAM file system, plain HTTP",
            tuple(
                _ours(
                    f"{concurrency} concurrent", replace(setting, concurrency=concurrency, jobs=sizes.small)
                )
                for concurrency in (1, 8, 32, 128, 512)
            ),
        ),
        Experiment(
            "depth",
            "The queue's depth: S, RAM file system, plain HTTP",
            tuple(
                _ours(f"{depth} queued", replace(setting, depth=depth))
                for depth in (sizes.shallow, sizes.deep)
            ),
        ),
        Experiment(
            "memory",
            "Memory",
            (
                _ours("1 GiB over TLS, alone", Setting(payload=HUGE, jobs=1, concurrency=1, tls=True)),
                _ours(
                    "4 MiB over TLS, 128 concurrent",
                    Setting(payload=MEDIUM, jobs=sizes.medium, concurrency=128, tls=True),
                ),
                _ours("20 KiB, 128 concurrent", replace(setting, concurrency=128)),
            ),
            "peak_mib",
        ),
    )


def _lone(sizes: Sizes) -> Experiment:
    alone = Setting(payload=SMALL, jobs=sizes.lone, concurrency=1)
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
                _curl("to disk, durable, TLS", curl.to_file, replace(large, tls=True)),
                _curl("to disk, durable, plain", curl.to_file, large),
                _curl("to sha256sum, plain", curl.to_hash, large),
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
