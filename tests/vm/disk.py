"""A disk with a volatile write cache, served to qemu over NBD: a power cut loses what was not flushed.

A write goes into memory and is answered. A flush writes what was answered before it to the image, which takes
time, so a power cut may fall into the middle of one. What a power cut loses is decided by chance, sector by
sector. With a plain image and `cache=writeback` only the guest's page cache would be lost, and a missing
flush of the disk would not show.

The protocol, fixed newstyle with simple replies:
https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

import asyncio
import os
import random
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from devkit.run import programs
from devkit.run.system import search_path as system_path

SIZE = 2 << 30
"""Bytes of each disk: a machine that goes on from a snapshot must find the disk that it had."""
_SECTOR = 4096
_MAGIC, _OPTION, _OPTION_REPLY = b"NBDMAGIC", 0x49484156454F5054, 0x3E889045565A9
_ANSWER = 0x67446698
_HAS_FLAGS, _SENDS_FLUSH, _SENDS_FUA = 1, 4, 8
_GO, _INFO, _ABORT = 7, 6, 2
_ACK, _IS_INFO, _UNSUPPORTED = 1, 3, 0x80000001
_READ, _WRITE, _DISCONNECT, _FLUSH = range(4)
_FORCE_UNIT_ACCESS = 1
_FORMATS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
_KEPT = 0.5
"""The share of unflushed sectors that a power cut leaves written."""
_FLUSH_STEPS, _FLUSH_PAUSE = 8, 0.03
"""A flush comes in so many steps, with a pause of up to so many seconds after each."""


class Disk:
    """An image, and what was written to it since the last flush.

    Args:
        image: The image.

    Attributes:
        image: The image.
        cuts_in_a_flush: How many power cuts fell into the middle of a flush.
    """

    def __init__(self, image: Path) -> None:
        self.image = image
        self._cache: dict[int, bytes] = {}
        self._file = -1
        self._flushing = 0
        self.cuts_in_a_flush = 0

    @asynccontextmanager
    async def served(self, socket: Path) -> AsyncIterator[None]:
        """Serve it to one machine. When that ends, so does the power."""
        socket.unlink(missing_ok=True)
        self._file = os.open(self.image, os.O_RDWR)
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(asyncio.ensure_future(self._serve(reader, writer)))

        try:
            async with await asyncio.start_unix_server(connected, socket, limit=1 << 26):
                yield
                self._lose_power()
                for connection in connections:
                    connection.cancel()
                await asyncio.gather(*connections, return_exceptions=True)
        finally:
            os.close(self._file)

    def _lose_power(self) -> None:
        self.cuts_in_a_flush += bool(self._flushing)
        for sector, data in self._cache.items():
            if random.random() < _KEPT:
                os.pwrite(self._file, data, sector * _SECTOR)
        self._cache.clear()
        self._flushing = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError), closing(writer):
            await self._agree(reader, writer)
            async with asyncio.TaskGroup() as flushes:
                while await self._obey(reader, writer, flushes):
                    await writer.drain()

    async def _obey(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flushes: asyncio.TaskGroup
    ) -> bool:
        """Do the next thing that is asked for; gives whether another may follow."""
        request = await reader.readexactly(28)
        _, flags, kind, handle, offset, length = struct.unpack(">IHH8sQI", request)
        answer = struct.pack(">II8s", _ANSWER, 0, handle)
        if kind == _READ:
            writer.write(answer + self._read(offset, length))
        elif kind == _WRITE:
            self._write(offset, await reader.readexactly(length))
            if flags & _FORCE_UNIT_ACCESS:
                flushes.create_task(self._flush(writer, answer))
            else:
                writer.write(answer)
        elif kind == _FLUSH:
            flushes.create_task(self._flush(writer, answer))
        return bool(kind != _DISCONNECT)

    async def _agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(struct.pack(">8sQH", _MAGIC, _OPTION, 1))
        await reader.readexactly(4)
        while True:
            _, option, length = struct.unpack(">QII", await reader.readexactly(16))
            await reader.readexactly(length)
            if option in {_GO, _INFO}:
                info = struct.pack(">HQH", 0, SIZE, _HAS_FLAGS | _SENDS_FLUSH | _SENDS_FUA)
                writer.write(struct.pack(">QIII", _OPTION_REPLY, option, _IS_INFO, len(info)) + info)
                writer.write(struct.pack(">QIII", _OPTION_REPLY, option, _ACK, 0))
                if option == _GO:
                    return
            elif option == _ABORT:
                raise ConnectionAbortedError
            else:
                writer.write(struct.pack(">QIII", _OPTION_REPLY, option, _UNSUPPORTED, 0))
            await writer.drain()

    def _read(self, offset: int, length: int) -> bytes:
        data = bytearray(os.pread(self._file, length, offset))
        for sector in range(offset // _SECTOR, (offset + length - 1) // _SECTOR + 1):
            if (cached := self._cache.get(sector)) is not None:
                start = sector * _SECTOR
                begin, end = max(offset, start), min(offset + length, start + _SECTOR)
                data[begin - offset : end - offset] = cached[begin - start : end - start]
        return bytes(data)

    def _write(self, offset: int, data: bytes) -> None:
        for done in range(-(offset % _SECTOR), len(data), _SECTOR):
            begin, end = max(done, 0), min(done + _SECTOR, len(data))
            sector, inside = divmod(offset + begin, _SECTOR)
            if end - begin == _SECTOR:
                self._cache[sector] = data[begin:end]
                continue
            whole = bytearray(self._read(sector * _SECTOR, _SECTOR))
            whole[inside : inside + end - begin] = data[begin:end]
            self._cache[sector] = bytes(whole)

    async def _flush(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        """Write what is in the cache now, in any order, and answer."""
        wanted = list(self._cache.items())
        random.shuffle(wanted)
        self._flushing += 1
        for step in range(_FLUSH_STEPS):
            for sector, data in wanted[step::_FLUSH_STEPS]:
                # It may have been written anew since, or been flushed by another.
                if self._cache.get(sector) is data:
                    os.pwrite(self._file, data, sector * _SECTOR)
                    del self._cache[sector]
            await asyncio.sleep(random.uniform(0, _FLUSH_PAUSE))
        self._flushing -= 1
        writer.write(answer)


def format_image(path: Path, system: str) -> None:
    """Make an empty file system, ext4 or xfs, in an image."""
    tool, *options = _FORMATS[system]
    command = [programs.find(tool), *options, str(path)]
    subprocess.run(command, env={**os.environ, "PATH": system_path()}, check=True, capture_output=True)


def new_image(path: Path) -> Path:
    """Make an empty image, in place of one that is there."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path
