"""Takes SHA-256 and the check of the zip out of the worker, for the figures that are marked so."""

import threading
from typing import BinaryIO

from worker.storage import files, tree


class _NoDigest:
    """Stands where a digest is asked for."""

    def update(self, data: bytes) -> None:
        """Take nothing in."""

    def hexdigest(self) -> str:
        """Give what looks like a digest."""
        return "0" * 64


class _NoHashlib:
    """Stands where `hashlib` is asked for."""

    @staticmethod
    def sha256() -> _NoDigest:
        """Give a digest of nothing."""
        return _NoDigest()


def _check_nothing(file: BinaryIO, stop: threading.Event) -> None:
    """Take every file for a sound zip."""


def switch_off() -> None:
    """Do it, for the rest of the process."""
    vars(files).update(hashlib=_NoHashlib)
    vars(tree).update(check_archive=_check_nothing)
