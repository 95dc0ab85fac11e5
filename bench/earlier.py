"""The worker as it was at one commit, to take turns with today's."""

import io
import subprocess
import tarfile
from pathlib import Path

COMMIT = "ee4caeb"
"""The last one whose client of CC-FS borrowed aiohttp's pool and parser."""

TREE = Path(".run/bench-earlier") / COMMIT


def unpack() -> Path:
    """Return the folder with the earlier worker, taken out of the repository's history if it is not there.

    Raises:
        SystemExit: The history is not there; the text says what to do.
    """
    if not (TREE / "bench").exists():
        command = ["git", "archive", COMMIT, "worker", "schemas", "bench"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"The benchmark needs commit {COMMIT}: fetch the whole history (git fetch --unshallow)."
            )
        TREE.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(TREE, filter="data")
    return TREE.absolute()
