"""How a package reads is measured in every folder, and as its functions are written."""

import subprocess
import sys
from pathlib import Path

import pytest

from devkit.reading import read_package, table

REPOSITORY = Path(__file__).parents[2]


def test_private_functions_called_once_are_counted(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "def read():\n    return _first() + _both() + _both()\n\n\n"
        "def _first():\n    return 1\n\n\n"
        "def _both():\n    number = 2\n    return number\n"
    )

    reading = read_package(tmp_path)

    assert reading.private == pytest.approx(2 / 3)
    assert reading.called_once == (1, 1)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("NUMBER = 1\n", "1 | - | - | 0, 0 of them of one statement | 0.0%"),
        ("def read():\n    return 1\n", "1 | 2 / 2 | 0% | 0, 0 of them of one statement | 0.0%"),
    ],
    ids=["no function", "one function"],
)
def test_a_package_with_few_functions_is_measured(tmp_path: Path, text: str, row: str) -> None:
    (tmp_path / "module.py").write_text(text)

    assert row in table([read_package(tmp_path)])


def test_a_folder_without_python_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "devkit.reading", str(tmp_path)]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}: no Python in there; give the folder of a package\n"
