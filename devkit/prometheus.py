"""Finds Prometheus's own programs, the judges of our rules and queries, and installs them where allowed."""

import os
import shutil

from devkit import server

_PACKAGE = "prometheus"
_HOW_TO = "Prometheus's programs are not there: install them (Debian, Ubuntu: apt-get install prometheus)."


def program(name: str) -> str:
    """Finds `promtool` or `prometheus`, or installs both with apt-get when run as root.

    Raises:
        SystemExit: it is not there and cannot be installed; the text says what to do.
    """
    found = shutil.which(name, path=server.search_path())
    if found is None and os.geteuid() == 0 and shutil.which("apt-get", path=server.search_path()):
        server.install_package(_PACKAGE)
        found = shutil.which(name, path=server.search_path())
    if found is None:
        raise SystemExit(_HOW_TO)
    return found
