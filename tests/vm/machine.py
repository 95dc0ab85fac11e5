"""Starts the lab's machine under qemu, talks to the agent in it, and cuts its power.

The processor is emulated (TCG): few machines in a cloud may use a hypervisor of their own. A start would take
a minute, so all but the first go on from a snapshot of the memory of a machine that has mounted nothing but
its root, within seconds.
"""

import asyncio
import itertools
import json
import os
import time
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from devkit.run import programs, system
from devkit.run.leash import Leashed
from tests.vm import image
from tests.vm.disk import Disk

GATEWAY = "10.0.2.2"
"""The host's own loopback, as the machine reaches it (qemu's user network)."""
PATIENCE = 300.0
"""Seconds that anything may take in the machine, unless said otherwise."""
_CONNECTED_WITHIN = 60.0
_SNAPSHOT = image.FOLDER / "snapshot"
_PAUSE = 0.1
_LINE = 1 << 24


class MachineError(Exception):
    """The machine, or something in it, did not do what it was asked for."""


class Machine:
    """A machine with one disk beside its root.

    Args:
        disk: The disk, in the machine `/dev/vdb`.
        folder: Where its sockets and its console's log go.
        amqp_port: A port of the host's loopback that leads to the machine's port for AMQP; 0 for none.

    Attributes:
        lines: What the workers have printed, by worker.
        ended: Workers that have ended.
    """

    def __init__(self, disk: Disk, folder: Path, *, amqp_port: int = 0) -> None:
        self._disk = disk
        self._folder = folder
        self._network = f"user,id=net,hostfwd=tcp:127.0.0.1:{amqp_port}-:5672" if amqp_port else "user,id=net"
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._up = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._stack = AsyncExitStack()
        self._changed = asyncio.Event()
        self.lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.ended: set[str] = set()

    async def __aenter__(self) -> Self:
        """Start it: from the snapshot, which the first machine of all takes."""
        try:
            if not _SNAPSHOT.exists():
                await self._take_snapshot()
            await self._resume()
        except BaseException:
            await self.cut()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Cut the power: qemu is killed, and then the disk loses what it had not written."""
        await self._stack.aclose()
        for answer in self._answers.values():
            answer.cancel()
        self._answers.clear()

    async def ask(self, do: str, *, patience: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """Have the agent do something, and give its answer.

        Raises:
            MachineError: It failed, or had no end within `patience` seconds.
        """
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._writer
        self._writer.write((json.dumps({"id": number, "do": do, **fields}) + "\n").encode())
        answer: dict[str, Any]
        try:
            answer = await asyncio.wait_for(future, patience)
        except TimeoutError as exc:
            raise MachineError(f"{do} {fields}: no answer within {patience:g} s") from exc
        if answer.get("code"):
            raise MachineError(f"{do} {fields}: {answer['code']}: {answer['printed'].strip()}")
        return answer

    async def sh(self, command: str, *, timeout: float = 60.0) -> str:
        """Run a shell command, and give what it printed. Raises MachineError if it failed."""
        answer = await self.ask("sh", command=command, timeout=timeout, patience=timeout + 60)
        return str(answer["printed"])

    async def worker(self, name: str, env: Mapping[str, str], *, before: str = "") -> int:
        """Start a worker, after the program `before` in the same process; gives its process id."""
        self.ended.discard(name)
        return int((await self.ask("worker", name=name, env=env, before=before))["pid"])

    async def digests(self, root: str) -> dict[str, str]:
        """The SHA-256 of each file below a directory, by its path there."""
        digests: dict[str, str] = (await self.ask("digests", root=root))["digests"]
        return digests

    async def get(self, path: str, *, port: int = 8080) -> tuple[int, str]:
        """Ask a worker for a page; gives status and body, or 0 and the reason."""
        answer = await self.ask("get", url=f"http://127.0.0.1:{port}{path}")
        return answer["status"], answer["body"]

    async def during(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Wait for something that needs a worker. Raises MachineError if the worker ends before it."""
        wanted = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self.until_ended(name, 2 * PATIENCE))
        try:
            await asyncio.wait((wanted, ended), return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                raise MachineError(f"{name} has ended: {self.lines[name][-20:]}")
            wanted.result()
        finally:
            wanted.cancel()
            ended.cancel()

    async def until_ended(self, name: str, patience: float) -> bool:
        """Wait until a worker has ended; gives whether it has."""
        try:
            async with asyncio.timeout(patience):
                while name not in self.ended:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _take_snapshot(self) -> None:
        unfinished = _SNAPSHOT.with_suffix(".part")
        await self._start()
        await self._up.wait()
        await self.ask("prepare", patience=2 * PATIENCE)
        await self._monitor("migrate-set-parameters", **{"max-bandwidth": 10**10})
        await self._monitor("stop")
        await self._monitor("migrate", uri=f"exec:cat > {unfinished}")
        await self._until_status("postmigrate")
        await self.cut()
        unfinished.rename(_SNAPSHOT)

    async def _resume(self) -> None:
        await self._start("-incoming", f"exec:cat {_SNAPSHOT}")
        # It was stopped when it was taken.
        await self._until_status("paused")
        await self._monitor("cont")
        await self.ask("resume", now=time.time(), seed=os.urandom(64).hex())

    async def _start(self, *more: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        disk, port = self._folder / "disk", self._folder / "port"
        port.unlink(missing_ok=True)
        connected = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writer = writer
            stack.callback(writer.close)
            connected.set()
            await self._listen(reader)

        self._stack = stack = AsyncExitStack()
        await stack.enter_async_context(self._disk.served(disk))
        await stack.enter_async_context(await asyncio.start_unix_server(listen, port, limit=_LINE))
        env = {**os.environ, "PATH": system.search_path()}
        command = _qemu(disk, port, self._folder, self._network)
        qemu = Leashed([*command, *more], env=env, output=self._folder / "qemu.log")
        stack.push_async_callback(asyncio.to_thread, qemu.kill)
        await asyncio.wait_for(connected.wait(), _CONNECTED_WITHIN)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "up" in message:
                self._up.set()
            elif "ended" in message:
                self.ended.add(message["ended"])
            elif "from" in message:
                self.lines[message["from"]].append(_read(message["line"]))
            elif (future := self._answers.pop(message["id"], None)) and not future.done():
                future.set_result(message)
            self._changed.set()

    async def _until_status(self, wanted: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if (await self._monitor("query-status"))["status"] == wanted:
                    return
                await asyncio.sleep(_PAUSE)

    async def _monitor(self, command: str, **arguments: object) -> Any:
        """Give qemu a command (QMP), and return its answer."""
        reader, writer = await self._monitor_connection()
        try:
            await reader.readline()
            await _execute(reader, writer, "qmp_capabilities")
            return await _execute(reader, writer, command, **arguments)
        finally:
            writer.close()

    async def _monitor_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECTED_WITHIN):
            while True:
                try:
                    return await asyncio.open_unix_connection(self._folder / "monitor")
                except OSError:
                    # qemu has not opened it yet.
                    await asyncio.sleep(_PAUSE)


def _qemu(disk: Path, port: Path, folder: Path, network: str) -> list[str]:
    nbd = f"file.driver=nbd,file.server.type=unix,file.server.path={disk}"
    return [
        programs.find("qemu-system-x86_64"),
        *("-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "1280"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-qmp", f"unix:{folder / 'monitor'},server=on,wait=off"),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-kernel", str(image.KERNEL), "-initrd", str(image.FIRST)),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"),
        *("-drive", f"file={image.DISK},if=virtio,format=raw,readonly=on"),
        *("-drive", f"{nbd},if=virtio,format=raw,cache=writeback"),
        *("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=lab,path={port}"),
        *("-device", "virtserialport,chardev=lab,name=lab", "-device", "virtio-rng-pci"),
    ]


async def _execute(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, **arguments: object
) -> Any:
    writer.write(json.dumps({"execute": name, "arguments": arguments}).encode())
    while "event" in (answer := json.loads(await reader.readline())):
        pass
    if "error" in answer:
        raise MachineError(f"qemu: {name}: {answer['error']['desc']}")
    return answer["return"]


def forget_snapshot() -> None:
    """Have the next machine take a new snapshot: the worker, or what is booted, may have changed."""
    _SNAPSHOT.unlink(missing_ok=True)


def _read(line: str) -> dict[str, Any]:
    """What a worker printed: JSON, or a traceback's line."""
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"event": "", "line": line}
    return fields
