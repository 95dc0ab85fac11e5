"""The machine's first process: mounts what is needed, then does what the host asks for.

The host speaks JSON lines over a virtio serial port. Each request has an `id` and names in `do` a method of
`Agent` below; the answer has the same `id`. Lines that workers print come in between, and word of their end.
Nothing but Python's own library is there when it starts.
"""

import fcntl
import hashlib
import json
import os
import select
import struct
import subprocess
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

_PORT = "lab"
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run",
    "LANG": "C.UTF-8",
    "PYTHONPATH": "/run/source:/opt/libraries",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_MOUNTS = (
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tmpfs", "/tmp"),  # noqa: S108 - the machine has no other user
    ("tmpfs", "/var/lib/nfs"),
    ("tmpfs", "/var/log"),
)
_START = """
ip link set lo up
for module in virtio_net xfs nfsd nfsv3 nfsv4 loop nf_tables; do modprobe $module; done
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
mkdir -p /run/logs /dev/shm /run/rpc_pipefs
ln -sf /proc/self/fd /dev/fd
"""
# An import of the worker takes half a minute where the processor is emulated: this process does it once, and
# each worker is a copy of it. `before` is a program that sabotages the worker, for the controls.
_NURSERY = """
import json, os, sys
import aio_pika, httptools, isal.isal_zlib, structlog, uvloop
import worker.app, worker.cli, worker.cli.run
print(0, flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if child := os.fork():
        print(child, flush=True)
        continue
    os.setsid()
    out = os.open(order["output"], os.O_WRONLY)
    os.dup2(out, 1), os.dup2(out, 2), os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.environ |= order["env"]
    exec(order["before"])
    sys.argv = ["ccfs-worker", "run"]
    worker.cli.main()
    os._exit(0)
"""
_ADD_ENTROPY, _RESEED = 0x40085203, 0x5207
"""RNDADDENTROPY and RNDRESEEDCRNG of random(4)."""
_DROP_BUFFERS = 0x1261
"""BLKFLSBUF of <linux/fs.h>."""
_TIMED_OUT, _FAILED = 124, 125


class Agent:
    """Does what the host asks for, each request on a thread of its own.

    Args:
        port: The serial port.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._saying, self._bearing = threading.Lock(), threading.Lock()
        self._nursery: subprocess.Popen[str] | None = None

    def serve(self) -> None:
        """Answer requests until the power goes."""
        self._say({"up": True})
        rest = b""
        while True:
            got = os.read(self._port, 65536)
            if not got:
                # Nobody has opened the host's end yet.
                time.sleep(0.2)
            *lines, rest = (rest + got).split(b"\n")
            for line in lines:
                threading.Thread(target=self._handle, args=(json.loads(line),), daemon=True).start()

    def sh(self, *, command: str, timeout: float) -> Mapping[str, Any]:
        """Run a shell command; gives its exit code and what it printed."""
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                env=_ENV,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            return {"code": _TIMED_OUT, "printed": f"no end within {timeout:g} s: {exc.output or ''}"}
        return {"code": done.returncode, "printed": done.stdout}

    def prepare(self) -> Mapping[str, Any]:
        """Do what is to be done before the snapshot, and need not be done again after it."""
        done = self.sh(command=_START, timeout=300)
        self._nursery = subprocess.Popen(
            ["python3", "-c", _NURSERY],
            env=_ENV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._nursery.stdout
        if not self._nursery.stdout.readline():
            return {"code": _FAILED, "printed": "the worker cannot be imported"}
        return done

    def resume(self, *, now: float, seed: str) -> Mapping[str, Any]:
        """Go on from the snapshot: all machines have its clock, its randomness, and its view of the disk."""
        time.clock_settime(time.CLOCK_REALTIME, now)
        entropy = bytes.fromhex(seed)
        with Path("/dev/urandom").open("wb") as device:
            fcntl.ioctl(device, _ADD_ENTROPY, struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy)
            fcntl.ioctl(device, _RESEED)
        for disk in Path("/sys/block").glob("vd*"):
            with Path("/dev", disk.name).open("rb") as device:
                fcntl.ioctl(device, _DROP_BUFFERS)
        return {}

    def worker(self, *, name: str, env: Mapping[str, str], before: str) -> Mapping[str, Any]:
        """Start a worker; each line that it prints is sent to the host. Gives its process id."""
        pipe = Path(f"/run/logs/{name}")
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        # Opened for writing, too: else a reader meets an end before the worker has opened it.
        lines = os.fdopen(os.open(pipe, os.O_RDWR), "rb")
        order = {"output": str(pipe), "env": dict(env), "before": before}
        assert self._nursery
        assert self._nursery.stdin
        assert self._nursery.stdout
        with self._bearing:
            self._nursery.stdin.write(json.dumps(order) + "\n")
            pid = int(self._nursery.stdout.readline())
        threading.Thread(target=self._forward, args=(name, lines), daemon=True).start()
        threading.Thread(target=self._await_end, args=(name, pid), daemon=True).start()
        return {"pid": pid}

    def digests(self, *, root: str) -> Mapping[str, Any]:
        """Give the SHA-256 of each file below a directory, by its path there."""
        digests = {}
        for path in Path(root).rglob("*"):
            # A worker may be at work.
            with suppress(FileNotFoundError):
                if path.is_file():
                    with path.open("rb") as file:
                        digests[str(path.relative_to(root))] = hashlib.file_digest(file, "sha256").hexdigest()
        return {"digests": digests}

    def get(self, *, url: str) -> Mapping[str, Any]:
        """Make an HTTP request from inside; gives status and body, or status 0 and the reason."""
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of the lab's own
                return {"status": answer.status, "body": answer.read().decode()}
        except urllib.error.HTTPError as exc:
            return {"status": exc.code, "body": exc.read().decode()}
        except OSError as exc:
            return {"status": 0, "body": str(exc)}

    def _handle(self, request: dict[str, Any]) -> None:
        number, name = request.pop("id"), request.pop("do")
        try:
            answer = getattr(self, name)(**request)
        except Exception:  # noqa: BLE001 - whatever it is, the host is waiting
            answer = {"code": _FAILED, "printed": traceback.format_exc()}
        self._say({"id": number, **answer})

    def _say(self, message: Mapping[str, Any]) -> None:
        data = (json.dumps(message) + "\n").encode()
        with self._saying:
            while data:
                data = data[os.write(self._port, data) :]

    def _forward(self, name: str, lines: IO[bytes]) -> None:
        for line in lines:
            self._say({"from": name, "line": line.decode(errors="replace").rstrip("\n")})

    def _await_end(self, name: str, pid: int) -> None:
        # Not a child of this process, and so not to be waited for.
        handle = os.pidfd_open(pid)
        select.select([handle], [], [])
        os.close(handle)
        self._say({"ended": name})


def main() -> None:
    """Mount, and serve."""
    for kind, where in _MOUNTS:
        subprocess.run(["mount", "-t", kind, kind, where], env=_ENV, check=False)
    (port,) = (
        f"/dev/{name.parent.name}"
        for name in Path("/sys/class/virtio-ports").glob("*/name")
        if name.read_text().strip() == _PORT
    )
    Agent(os.open(port, os.O_RDWR)).serve()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        with Path("/dev/console").open("w") as console:
            traceback.print_exc(file=console)
        # The kernel panics when its first process ends, and nobody would see why.
        time.sleep(3600)
        raise
