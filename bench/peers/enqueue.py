"""Put jobs into the queue of a framework that has a message format of its own.

`python -m bench.peers.enqueue celery|dramatiq|taskiq` reads lines of `appId billFileName` from its input.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable

Jobs = Iterable[tuple[str, str]]


def to_celery(jobs: Jobs) -> None:
    """Enqueue Celery tasks."""
    from bench.peers.celery_app import fetch  # noqa: PLC0415 - each framework only when asked for

    for app_id, bill_file_name in jobs:
        fetch.delay(app_id, bill_file_name)


def to_dramatiq(jobs: Jobs) -> None:
    """Enqueue dramatiq messages."""
    from bench.peers.dramatiq_app import fetch  # noqa: PLC0415

    for app_id, bill_file_name in jobs:
        fetch.send(app_id, bill_file_name)


def to_taskiq(jobs: Jobs) -> None:
    """Enqueue taskiq tasks."""
    asyncio.run(_to_taskiq(jobs))


async def _to_taskiq(jobs: Jobs) -> None:
    from bench.peers.taskiq_app import broker, fetch  # noqa: PLC0415

    await broker.startup()
    for app_id, bill_file_name in jobs:
        await fetch.kiq(app_id, bill_file_name)
    await broker.shutdown()


FRAMEWORKS: dict[str, Callable[[Jobs], None]] = {
    "celery": to_celery,
    "dramatiq": to_dramatiq,
    "taskiq": to_taskiq,
}


if __name__ == "__main__":
    wanted = [line.split() for line in sys.stdin]
    FRAMEWORKS[sys.argv[1]]((app_id, bill_file_name) for app_id, bill_file_name in wanted)
