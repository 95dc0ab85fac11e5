"""Takes SHA-256 and the check of the zip out of the worker, for the figures that are marked so."""

from worker.storage import content


class _NoDigest:
    """Stands where a digest is asked for."""

    def update(self, data: bytes | memoryview) -> None:
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


class _NoWalk:
    """Stands where a zip is walked through, and takes every file for a sound one."""

    def feed(self, block: bytes | memoryview) -> None:
        """Take nothing in."""

    def proves_sound(self) -> bool:
        """Say yes."""
        return True


def switch_off() -> None:
    """Do it, for the rest of the process."""
    vars(content).update(hashlib=_NoHashlib, ZipWalk=_NoWalk)
