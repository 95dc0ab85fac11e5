"""Record where the worker's time goes: a flame graph of S and one of L, by py-spy."""

import asyncio
import subprocess
import tempfile
from pathlib import Path

from bench import sample
from bench.contestants import OURS, PEERS_PYTHON
from bench.lab import Lab, open_lab
from bench.payload import LARGE, SMALL
from bench.queues import Queues, open_queues
from bench.setting import Setting

_SECONDS = 5
_SAMPLES_PER_SECOND = 100
_SETTINGS = {
    "profile-S.svg": Setting(payload=SMALL, jobs=20_000),
    "profile-L.svg": Setting(payload=LARGE, jobs=8, concurrency=2),
}


async def record(folder: Path) -> None:
    """Draw the flame graphs into a folder."""
    with open_lab() as lab:
        async with open_queues(lab.amqp_url) as queues:
            for name, setting in _SETTINGS.items():
                await _record(lab, queues, setting, folder / name)


async def _record(lab: Lab, queues: Queues, setting: Setting, output: Path) -> None:
    with lab.storage(setting) as root, tempfile.TemporaryDirectory() as folder:
        around = lab.surroundings(setting, root)
        await sample.enqueue(queues, OURS, around, setting)
        log = Path(folder) / "output"
        with sample.running(OURS, around, setting, log) as (process, _):
            await sample.reach(queues, process, log, setting.warm_up)
            await asyncio.to_thread(_draw, process.pid, output)
    await queues.clear(OURS.queue)


def _draw(pid: int, output: Path) -> None:
    subprocess.run(_py_spy(pid, output), check=True)
    # py-spy writes its whole command line into the picture.
    output.write_text(output.read_text().replace(f"{Path.cwd()}/", ""))


def _py_spy(pid: int, output: Path) -> list[str]:
    program = PEERS_PYTHON.absolute().with_name("py-spy")
    # Without pausing the worker at each look, which would slow it down several times.
    options = ["--nonblocking", "--threads", "--rate", str(_SAMPLES_PER_SECOND), "--duration", str(_SECONDS)]
    return [str(program), "record", "--pid", str(pid), "--output", str(output), *options]
