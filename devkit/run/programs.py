"""Find programs that tests and devkit need beside RabbitMQ, and install them where allowed."""

import os
import shutil
from collections.abc import Mapping

from devkit.run import system

_PACKAGES: Mapping[str, str] = {
    "busybox": "busybox-static",
    "chromium": "chromium",
    "cpio": "cpio",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mmdebstrap": "mmdebstrap",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "qemu-system-x86_64": "qemu-system-x86",
}
"""By program, the Debian package that has it."""


def find(name: str) -> str:
    """Find a program of `_PACKAGES`, or install it with apt-get when run as root.

    Raises:
        SystemExit: It is not there and cannot be installed; the text says what to do.
    """
    path = system.search_path()
    found = shutil.which(name, path=path)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get", path=path):
        system.install_package(_PACKAGES[name])
        found = shutil.which(name, path=path)
    if found is None:
        raise SystemExit(
            f"{name} is not there: install it (Debian, Ubuntu: apt-get install {_PACKAGES[name]})"
        )
    return found
