"""A limit: curl and sha256sum fetching the same files from the same server."""

import asyncio
import resource
import subprocess
import time
from pathlib import Path

from bench.lab import Lab
from bench.memory import touch_memory
from bench.payload import GIB
from bench.sample import LARGE_BYTES, Figures, SampleError
from bench.setting import Setting
from worker.ccfs import DOWNLOAD_PATH

_BODY = '{"request":{"version":"2.0"},"msgBody":{"billFileName":"20260131_1.zip"}}'

# In each lane one file after another: to storage, durable, then its digest.
_TO_FILE_THEN_HASH = 'curl --config "$0" --output "$1" && sync "$1" && sha256sum "$1"'
_TO_FILE = 'curl --config "$0" --output "$1" && sync "$1"'
_TO_HASH = 'curl --config "$0" | sha256sum'


async def parallel(lab: Lab, setting: Setting) -> Figures:
    """`curl -Z`: one curl, all files, no fsync and no digest."""
    with lab.storage(setting) as root:
        config = _write_config(lab, setting, root)
        lines = config.read_text()
        each = "\nnext\n".join(f"{lines}\noutput = {root}/{number}.zip" for number in range(setting.jobs))
        config.write_text(each)
        command = ["curl", "--parallel", "--parallel-max", str(setting.concurrency), "--config", str(config)]
        return await _timed(command, "", setting)


async def then_hash(lab: Lab, setting: Setting) -> Figures:
    """Curl to a durable file, then sha256sum of it, in as many lanes as `concurrency`."""
    return await _in_lanes(lab, setting, _TO_FILE_THEN_HASH)


async def to_file(lab: Lab, setting: Setting) -> Figures:
    """Curl to a durable file, in as many lanes as `concurrency`."""
    return await _in_lanes(lab, setting, _TO_FILE)


async def to_hash(lab: Lab, setting: Setting) -> Figures:
    """`curl | sha256sum`, in as many lanes as `concurrency`."""
    return await _in_lanes(lab, setting, _TO_HASH)


async def _in_lanes(lab: Lab, setting: Setting, script: str) -> Figures:
    with lab.storage(setting) as root:
        config = _write_config(lab, setting, root)
        command = ["xargs", "-n", "1", "-P", str(setting.concurrency), "sh", "-c", script, str(config)]
        names = "".join(f"{root}/{number}.zip\n" for number in range(setting.jobs))
        return await _timed(command, names, setting)


def _write_config(lab: Lab, setting: Setting, root: Path) -> Path:
    base = lab.files.tls if setting.tls else lab.files.plain
    options = {
        "url": f"{base}{DOWNLOAD_PATH}",
        "cacert": lab.files.ca_file,
        "data": _BODY.replace('"', '\\"'),
        "header": f"Authorization: auth-v2/{setting.payload.name}/",
    }
    path = root / "curl.conf"
    path.write_text(
        "\n".join(["silent", "fail", *(f'{name} = "{value}"' for name, value in options.items())])
    )
    return path


async def _timed(command: list[str], names: str, setting: Setting) -> Figures:
    if setting.total_bytes >= LARGE_BYTES:
        touch_memory()
    before, started = _children_cpu(), time.monotonic()
    done = await asyncio.to_thread(
        subprocess.run, command, input=names.encode(), capture_output=True, check=False
    )
    seconds, cpu = time.monotonic() - started, _children_cpu() - before
    if done.returncode:
        raise SampleError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return {
        "jobs_per_second": setting.jobs / seconds,
        "mb_per_second": setting.total_bytes / 1e6 / seconds,
        "cpu_per_1000_jobs": cpu / setting.jobs * 1000,
        "cpu_per_gib": cpu / (setting.total_bytes / GIB),
    }


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
