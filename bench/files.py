"""A limit: the rate at which the file system makes small files durable."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.lab import Lab
from bench.sample import Figures
from bench.setting import Setting


async def durable(lab: Lab, setting: Setting) -> Figures:
    """Create, write, fsync and rename files from as many threads as `concurrency`."""
    content = os.urandom(setting.payload.size)
    with lab.storage(setting) as root:
        seconds = await asyncio.to_thread(_write_all, root, content, setting)
    return {"jobs_per_second": setting.jobs / seconds}


def write_durably(part: Path, target: Path, content: bytes) -> None:
    """Write one file as the worker does: temporary name, fsync, rename, fsync of the directory."""
    with part.open("xb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
    part.rename(target)
    directory = os.open(target.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _write_all(root: Path, content: bytes, setting: Setting) -> float:
    def write(number: int) -> None:
        write_durably(root / f".{number}.part", root / f"{number}.zip", content)

    with ThreadPoolExecutor(setting.concurrency) as threads:
        started = time.monotonic()
        list(threads.map(write, range(setting.jobs)))
        return time.monotonic() - started
