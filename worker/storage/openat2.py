"""Opens paths that have no link on them, in one system call: openat2(2), which Python does not offer.

To go down one directory at a time proves as much, but takes two calls for each directory. After each call a
thread has to get Python's lock back from the event loop, which costs far more than the call itself.
"""

import ctypes
import os

_NUMBER = 437
"""The same on every architecture that Python is packaged for (asm-generic/unistd.h); since Linux 5.6."""
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 0x04


class _How(ctypes.Structure):
    """struct open_how (linux/openat2.h)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# CDLL gives Python's lock up during the call; PyDLL would stop the whole process while a volume hangs. With
# use_errno a thread sees its own errno, whatever Python has called in between.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def open_unlinked(path: str, flags: int) -> int:
    """Open what is there under a path of which no component is a symbolic link.

    Args:
        path: Any path without a NUL.
        flags: Those of open(2) that create nothing.

    Returns:
        A descriptor.

    Raises:
        OSError: It cannot be opened: ELOOP when there is a link, and ENOSYS or EPERM where the kernel is too
            old for the call or a sandbox keeps it from us. Not tried again after EINTR, EAGAIN.
    """
    how = _How(flags, 0, _RESOLVE_NO_SYMLINKS)
    descriptor: int = _syscall(_NUMBER, _AT_FDCWD, os.fsencode(path), how, ctypes.sizeof(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor
