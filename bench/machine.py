"""Describe the machine and the versions that figures depend on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench import nginx
from bench.contestants import PEERS_PYTHON
from bench.payload import GIB

_OURS = ("aio-pika", "aiormq", "aiohttp", "uvloop", "pydantic")
_PEERS = ("faststream", "taskiq", "taskiq-aio-pika", "celery", "dramatiq", "aio-pika", "aiohttp")
_LIST_VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"


def describe(rabbitmq: str) -> dict[str, str]:
    """Name what the figures were measured on.

    Args:
        rabbitmq: The broker's version.
    """
    return {
        "processor": f"{os.cpu_count()} cores of {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "RabbitMQ": rabbitmq,
        "nginx": _first_line([nginx.ensure(), "-v"]).removeprefix("nginx version: nginx/"),
        "curl": _first_line(["curl", "--version"]).split()[1],
        "the worker's libraries": _joined(_OURS, [version(name) for name in _OURS]),
        "the peers' libraries": _joined(_PEERS, _peer_versions()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.splitlines()[0]


def _joined(names: tuple[str, ...], versions: list[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in zip(names, versions, strict=True))


def _peer_versions() -> list[str]:
    return _first_line([str(PEERS_PYTHON), "-c", _LIST_VERSIONS, *_PEERS]).split()
