"""Records where the worker's time goes: a flame graph of S and one of L, by py-spy."""

from dataclasses import replace
from pathlib import Path

from bench import sample
from bench.contestants import OURS, PEERS_PYTHON
from bench.lab import open_lab
from bench.payload import LARGE, SMALL
from bench.queues import open_queues
from bench.setting import Setting

_SAMPLES_PER_SECOND = "200"
_SETTINGS = {
    "profile-S.svg": Setting(payload=SMALL, jobs=5000),
    "profile-L.svg": Setting(payload=LARGE, jobs=6, concurrency=2),
}


async def record(folder: Path) -> None:
    """Draw the flame graphs into a folder."""
    with open_lab() as lab:
        async with open_queues(lab.amqp_url) as queues:
            for name, setting in _SETTINGS.items():
                spied = replace(OURS, command=(*_py_spy(folder / name), "--", *OURS.command))
                await sample.take(lab, queues, spied, setting)


def _py_spy(output: Path) -> tuple[str, ...]:
    program = PEERS_PYTHON.absolute().with_name("py-spy")
    return (str(program), "record", "--output", str(output), "--rate", _SAMPLES_PER_SECOND)
