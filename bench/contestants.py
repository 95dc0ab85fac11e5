"""Who takes part: how each is started, and how its jobs reach its queue."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pamqp.common import FieldTable

from bench import earlier
from bench.setting import Setting
from worker.broker import Names, Topology

PEERS_PYTHON = Path(".run/bench-venv/bin/python")
SECRET_KEY = "a-secret-key-of-the-benchmark"  # noqa: S105 - the file server checks no signature

Jobs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The peers and places that a contestant works with.

    Attributes:
        amqp_url: The broker.
        base_url: The file server.
        ca_file: The authority behind its certificate.
        root: The storage root.
        keys: The directory of the accounts' keys.
    """

    amqp_url: str
    base_url: str
    ca_file: Path
    root: Path
    keys: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One worker of the comparison.

    Attributes:
        name: What the report calls it.
        command: Its command line; `{concurrency}` stands for the concurrent jobs.
        framework: Whose message format its jobs have; empty for plain JSON.
        dead_letters: Whether its queue of jobs has the dead lettering of the worker's topology.
        tree: Returns the folder whose code it runs; None is this one.
    """

    name: str
    command: tuple[str, ...]
    framework: str = ""
    dead_letters: bool = False
    tree: Callable[[], Path] | None = None

    @property
    def queue(self) -> str:
        """Its queue of jobs."""
        return f"bench.{self.name.lower().replace(' ', '-')}"

    @property
    def queue_arguments(self) -> FieldTable:
        """The arguments of its queue, if its jobs are plain JSON."""
        if not self.dead_letters:
            return {"x-queue-type": "quorum"}
        topology = Topology(names=Names(jobs=self.queue), tiers=(), delivery_limit=20)
        return dict(topology.queues()[self.queue])

    def start(self, around: Surroundings, setting: Setting, output: Path) -> subprocess.Popen[bytes]:
        """Start it on the jobs in its queue."""
        command = [part.format(concurrency=setting.concurrency) for part in self.command]
        with output.open("wb") as file:
            return subprocess.Popen(
                command,
                env=self._environment(around, setting),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def enqueue(self, jobs: Jobs, around: Surroundings, setting: Setting) -> None:
        """Put jobs into its queue in its framework's format."""
        subprocess.run(
            [str(PEERS_PYTHON.absolute()), "-m", "bench.peers.enqueue", self.framework],
            env=self._environment(around, setting),
            input="".join(f"{app_id} {name}\n" for app_id, name in jobs).encode(),
            check=True,
        )

    def _environment(self, around: Surroundings, setting: Setting) -> Mapping[str, str]:
        values = {
            "BENCH_AMQP_URL": around.amqp_url,
            "BENCH_QUEUE": self.queue,
            "BENCH_RESULTS": "ccfs.results",
            "BENCH_BASE_URL": around.base_url,
            "BENCH_CA_FILE": around.ca_file,
            "BENCH_ROOT": around.root,
            "BENCH_SECRET_KEY": SECRET_KEY,
            "BENCH_CONCURRENCY": setting.concurrency,
            "WORKER_AMQP__URL": around.amqp_url,
            "WORKER_AMQP__JOBS_QUEUE": self.queue,
            "WORKER_CCFS__BASE_URL": around.base_url,
            "WORKER_CCFS__CA_FILE": around.ca_file,
            "WORKER_CREDENTIALS__DIR": around.keys,
            "WORKER_STORAGE__ROOT": around.root,
            "WORKER_CONCURRENCY": setting.concurrency,
            "WORKER_HTTP__HOST": "127.0.0.1",
            "WORKER_HTTP__PORT": 0,
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": self.tree() if self.tree else Path.cwd(),
        }
        return {name: str(value) for name, value in values.items()}


def _peer(*words: str) -> tuple[str, ...]:
    return (str(PEERS_PYTHON.absolute()), "-m", *words)


OURS = Contestant(name="ccfs-worker", command=(sys.executable, "-m", "bench.worker"), dead_letters=True)
UNLISTED = replace(OURS, name="ccfs-worker without entries", command=(sys.executable, "-m", "bench.unlisted"))
BY_AIORMQ = replace(OURS, name="all frames through aiormq", command=(sys.executable, "-m", "bench.by_aiormq"))
BY_SESSION = replace(
    OURS, name="requests by the session of aiohttp", command=(sys.executable, "-m", "bench.by_session")
)
EARLIER = Contestant(
    name=f"ccfs-worker at {earlier.COMMIT}",
    # -P: the folder that this is started in holds today's code.
    command=(sys.executable, "-P", "-m", "bench.worker"),
    dead_letters=True,
    tree=earlier.unpack,
)
OBVIOUS = Contestant(name="obvious worker", command=_peer("bench.peers.obvious"))
FASTSTREAM = Contestant(
    name="FastStream",
    command=_peer("faststream", "run", "bench.peers.faststream_app:app", "--log-level", "warning"),
)
TASKIQ = Contestant(
    name="taskiq",
    command=_peer(
        "taskiq",
        "worker",
        "bench.peers.taskiq_app:broker",
        "--workers=1",
        "--max-async-tasks={concurrency}",
        "--ack-type=when_executed",
        "--log-level=WARNING",
    ),
    framework="taskiq",
)
CELERY = Contestant(
    name="Celery",
    command=_peer(
        "celery",
        "--app=bench.peers.celery_app",
        "worker",
        "--pool=threads",
        "--concurrency={concurrency}",
        "--loglevel=WARNING",
        "--without-gossip",
        "--without-mingle",
    ),
    framework="celery",
)
DRAMATIQ = Contestant(
    name="dramatiq",
    command=_peer("dramatiq", "bench.peers.dramatiq_app", "--processes=1", "--threads={concurrency}"),
    framework="dramatiq",
)
FRAMEWORKS = (FASTSTREAM, TASKIQ, CELERY, DRAMATIQ)
PEERS = (OBVIOUS, *FRAMEWORKS)
