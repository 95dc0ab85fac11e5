"""What users install has the documents in it, and nothing that only a checkout needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_code_types_and_documents(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    documents = {"schemas/asyncapi.yaml", "schemas/json/DownloadJob.schema.json"}
    assert documents | {"worker/py.typed", "schemas/py.typed", "worker/cli/run.py"} <= names
    assert "schemas/__main__.py" not in names
    assert not [name for name in names if name.startswith(("tests/", "devkit/"))]
