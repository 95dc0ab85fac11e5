"""A limit: the CPU that no program can avoid to bring a file from a TLS server to storage.

Each step is done alone, by a library in C, on the same bytes and in blocks of a mebibyte. Only its CPU time
counts. A worker does all of them, so their sum is the floor beneath it.
"""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from isal import isal_zlib

from bench.lab import Lab
from bench.payload import GIB, MIB, Payload
from bench.sample import Figures
from bench.setting import Setting
from worker.ccfs import DOWNLOAD_PATH

_NONCE = bytes(12)
_REQUEST = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: auth-v2/{account}/\r\nContent-Length: 0\r\n\r\n"
)


def take(lab: Lab, setting: Setting) -> Figures:
    """Measure each step on as many bytes as the setting has, and add them up."""
    content = os.urandom(MIB)
    gibibytes = setting.total_bytes / GIB
    with lab.storage(setting) as root:
        steps = {
            "receive": _cpu(lambda: _receive(lab.files.plain, setting)),
            "decrypt": _cpu(_decryption(content, setting)),
            "sha256": _cpu(lambda: _digest(content, setting)),
            "crc32": _cpu(lambda: _checksum(content, setting)),
            "write": _cpu(lambda: _write(root, content, setting)),
        }
    spent = {f"{step}_per_gib": seconds / gibibytes for step, seconds in steps.items()}
    return {"cpu_per_gib": sum(spent.values()), **spent}


def _cpu(step: Callable[[], None]) -> float:
    before = time.process_time()
    step()
    return time.process_time() - before


def _blocks(size: int) -> Iterator[int]:
    """The length of each step of a file."""
    for start in range(0, size, MIB):
        yield min(MIB, size - start)


def _receive(base_url: str, setting: Setting) -> None:
    address = urlsplit(base_url)
    request = _REQUEST.format(path=DOWNLOAD_PATH, host=address.netloc, account=setting.payload.name).encode()
    block = memoryview(bytearray(MIB))
    with socket.create_connection((address.hostname, address.port)) as connection:
        for _ in range(setting.jobs):
            connection.sendall(request)
            _receive_answer(connection, block, setting.payload)


def _receive_answer(connection: socket.socket, block: memoryview, payload: Payload) -> None:
    got = connection.recv_into(block)
    head = bytes(block[:got]).index(b"\r\n\r\n") + 4
    remaining = payload.size - (got - head)
    while remaining:
        got = connection.recv_into(block, min(len(block), remaining), socket.MSG_WAITALL)
        if not got:
            raise ConnectionError("the file server closed the connection")
        remaining -= got


def _decryption(content: bytes, setting: Setting) -> Callable[[], None]:
    cipher = AESGCM(bytes(32))
    sealed = cipher.encrypt(_NONCE, content, None)
    opened = bytearray(len(content))

    def decrypt() -> None:
        for _ in range(setting.jobs):
            for _ in _blocks(setting.payload.size):
                cipher.decrypt_into(_NONCE, sealed, None, opened)

    return decrypt


def _digest(content: bytes, setting: Setting) -> None:
    for _ in range(setting.jobs):
        digest = hashlib.sha256()
        for length in _blocks(setting.payload.size):
            digest.update(memoryview(content)[:length])


def _checksum(content: bytes, setting: Setting) -> None:
    for _ in range(setting.jobs):
        checksum = 0
        for length in _blocks(setting.payload.size):
            checksum = isal_zlib.crc32(memoryview(content)[:length], checksum)


def _write(root: Path, content: bytes, setting: Setting) -> None:
    for number in range(setting.jobs):
        with (root / f"{number}.zip").open("xb", buffering=0) as file:
            for length in _blocks(setting.payload.size):
                file.write(memoryview(content)[:length])
            os.fsync(file.fileno())
