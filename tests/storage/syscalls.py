"""Makes system calls fail for real: the kernel answers them with an error, in one thread only.

A seccomp filter (seccomp(2)) belongs to the thread that installs it and dies with it, so a test puts one
into the threads of the executor that the storage works on. No privilege is needed.
"""

import ctypes
import os
import platform
from pathlib import Path
from queue import SimpleQueue

import pytest

from worker.storage import Threads

_NUMBERS = {
    "x86_64": {
        "write": 1,
        "close": 3,
        "fsync": 74,
        "openat": 257,
        "mkdirat": 258,
        "unlinkat": 263,
        "renameat": 264,
        "openat2": 437,
    },
    "aarch64": {
        "write": 64,
        "close": 57,
        "fsync": 82,
        "openat": 56,
        "mkdirat": 34,
        "unlinkat": 35,
        "renameat": 38,
        "openat2": 437,
    },
}.get(platform.machine(), {})
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def fail(
    threads: Threads, call: str, error: int, *, on: int | None = None, but_on: int | None = None
) -> None:
    """Make a system call fail from now on in a thread, which must be the only one.

    Args:
        threads: That thread.
        call: The system call's name.
        error: The errno that it gives.
        on: Only when its first argument is this file descriptor.
        but_on: Unless its first argument is this one.
    """
    if call not in _NUMBERS:
        pytest.skip(f"system calls of {platform.machine()} are not known here")
    reasons: SimpleQueue[str] = SimpleQueue()
    threads.start(lambda: reasons.put(_install(_NUMBERS[call], error, on, but_on)))
    if reason := reasons.get():
        pytest.skip(reason)


def descriptor_of(name: str) -> int:
    """The file descriptor of this process that is open on a file whose path has this in it."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if name in str(entry.readlink()):
                return int(entry.name)
        except FileNotFoundError:
            continue
    raise AssertionError(f"no file like {name} is open")


def _install(number: int, error: int, on: int | None, but_on: int | None) -> str:
    """Return why it cannot be done; nothing when it is."""
    steps = [(_LOAD, 0, 0, _NUMBER_AT), (_JUMP_IF_EQUAL, 0, 3, number), (_LOAD, 0, 0, _FIRST_ARGUMENT_AT)]
    if on is not None:
        steps += [(_JUMP_IF_EQUAL, 0, 1, on), (_RETURN, 0, 0, _ERRNO | error)]
    elif but_on is not None:
        steps += [(_JUMP_IF_EQUAL, 1, 0, but_on), (_RETURN, 0, 0, _ERRNO | error)]
    else:
        steps += [(_LOAD, 0, 0, _NUMBER_AT), (_RETURN, 0, 0, _ERRNO | error)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        return f"the kernel takes no seccomp filter: {os.strerror(ctypes.get_errno())}"
    return ""
