"""What a defect puts into the log shows no key."""

import subprocess
import sys

import pytest

DEFECT = """
import structlog
from worker.observe import logs

logs.configure(level="INFO", json={json})

def sign(secret_key):
    raise RuntimeError("a defect")

try:
    sign("1qaz2wsx" + "3edc4rfv5tgb")
except RuntimeError:
    structlog.stdlib.get_logger("worker").exception("job.defect")
"""


@pytest.mark.parametrize("json", [True, False], ids=["json", "console"])
def test_a_traceback_in_the_log_has_no_variables(json: bool) -> None:
    """The key is one of them wherever a request is signed."""
    run = subprocess.run(
        [sys.executable, "-c", DEFECT.format(json=json)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "RuntimeError: a defect" in run.stdout
    assert "1qaz2wsx3edc4rfv5tgb" not in run.stdout + run.stderr
