"""Libraries that change what calls to the system do, for programs that run with them in LD_PRELOAD."""

import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent


def build(name: str, folder: Path) -> Path | None:
    """Build the library `name` into a folder; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / f"{name}.so"
    source = _SOURCES / f"{name}.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library
