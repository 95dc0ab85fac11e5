"""The worker in a machine that loses its power, and on real NFS: `make test-powercut`, `make test-nfs`.

The first argument says which, all others are pytest's.
"""

import os
import subprocess
import sys

from devkit import ROOT
from devkit.run import broker, programs, system
from tests.vm import image, rows
from tests.vm.machine import forget_snapshot

_EXPERIMENTS = {
    "powercut": ("tests/vm/test_powercut.py", "tests/vm/test_broker.py"),
    "nfs": ("tests/vm/test_nfs.py",),
}


def main() -> None:
    """Build the machine, run the experiments, print the table, and exit as pytest did."""
    which, *arguments = sys.argv[1:]
    _check_machine(which)
    broker.ensure()
    image.build()
    forget_snapshot()
    found = image.FOLDER / f"{which}.rows"
    found.unlink(missing_ok=True)
    pytest = (sys.executable, "-m", "pytest", "-m", "vm", *_EXPERIMENTS[which], *arguments)
    done = subprocess.run(
        pytest,
        cwd=ROOT,
        env={**os.environ, "PATH": system.search_path(), rows.FILE: str(found)},
        check=False,
    )
    print(rows.table(rows.read(found)))
    sys.exit(done.returncode)


def _check_machine(which: str) -> None:
    if os.geteuid() != 0:
        raise SystemExit(f"make test-{which} needs root: it builds a Debian to boot.")
    programs.find("qemu-system-x86_64")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
