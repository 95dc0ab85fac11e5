"""TLS renews its keys in the middle of a file."""

import asyncio
import fcntl
import os
import shutil
import socket
import struct
import termios
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.ccfs.raw import response
from tests.ccfs.samples import JOB, KEY, OpenClient, make_zip
from worker.net.tls import client_context

FILE = make_zip(b"\x00" * 300_000, method=0)
HALF = len(FILE) // 2
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl(1) is not installed")


@asynccontextmanager
async def serving_by_hand(folder: Path, *options: str) -> AsyncIterator[tuple[int, Process, int]]:
    """Run openssl's test server, which sends what it is given, and obeys lines of one letter."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    orders, commands = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "server.pem", *options),
        cwd=folder,
        stdin=orders,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readuntil(b"ACCEPT\n")
        yield port, process, commands
    finally:
        os.close(orders)
        os.close(commands)
        process.kill()
        await process.communicate()


async def give(commands: int, data: bytes) -> None:
    """Have the server read this by itself: it takes a line for a command only at the start of a read."""
    while data:
        data = data[await asyncio.to_thread(os.write, commands, data) :]
    while struct.unpack("i", fcntl.ioctl(commands, termios.FIONREAD, bytes(4)))[0]:  # noqa: ASYNC110 - a pipe has no event for it
        await asyncio.sleep(0.01)


@needs_openssl
@pytest.mark.parametrize(
    ("options", "command"),
    [
        (("-tls1_3",), b"k\n"),
        (("-tls1_3",), b"K\n"),
        (("-tls1_2",), b"r\n"),
    ],
    ids=["key update", "key update of both sides", "renegotiation"],
)
async def test_keys_may_be_renewed_in_mid_body(
    client_for: OpenClient, tmp_path: Path, options: tuple[str, ...], command: bytes
) -> None:
    async with serving_by_hand(tmp_path, *options) as (port, process, commands):
        tls = client_context(ca_file=tmp_path / "ca.pem")

        async def answer() -> None:
            assert process.stdout is not None
            await process.stdout.readuntil(b"billFileName")
            whole = response(FILE)
            for piece in (whole[:HALF], command, whole[HALF:]):
                await give(commands, piece)

        answering = asyncio.create_task(answer())
        async with (
            client_for(f"https://127.0.0.1:{port}", tls=tls) as client,
            client.open(JOB, KEY) as file,
        ):
            content = b"".join([bytes(chunk) async for chunk in file.chunks])
        await answering

    assert content == FILE
