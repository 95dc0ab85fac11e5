"""The README's ten minutes, pasted block by block into two terminals, as a newcomer does."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from devkit import ROOT
from devkit.run import server
from tests.docs.pages import pastes
from tests.docs.shell import Shell

_NETWORK_OF_ITS_OWN = (
    "unshare",
    "--map-root-user",
    "--net",
    "sh",
    "-c",
    'ip link set lo up && exec "$@"',
    "sh",
)
"""The usual ports are free in it, and whatever listens there was started by the test."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone after `make setup`."""
    if "AMQP" in os.environ and server.find() is None:
        pytest.skip("needs a RabbitMQ server on this machine")
    if subprocess.run(["make", "--question", ".venv/.setup-done"], cwd=ROOT, check=False).returncode:
        # It would install the clone, in place of this tree.
        pytest.skip("needs `make setup` first")
    folder = tmp_path / "ccfs-worker"
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in {".env", "try"}:
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def terminals(clone: Path) -> Iterator[dict[int, Shell]]:
    """Two terminals on one machine, with no setting of ours in their environment."""
    if subprocess.run([*_NETWORK_OF_ITS_OWN, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a network of its own: unshare and ip, and leave to use them")
    kept = {"HOME": str(clone.parent), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    with ExitStack() as stack:
        first = stack.enter_context(Shell(cwd=clone, env=kept, inside=_NETWORK_OF_ITS_OWN))
        assert first.run("true") == (0, "")
        join = ("nsenter", "--target", str(first.pid), "--user", "--net", "--preserve-credentials")
        yield {1: first, 2: stack.enter_context(Shell(cwd=clone, env=kept, inside=join))}


def in_the_network_of(process: int) -> set[int]:
    """Every process that has the network of that one."""
    network = _net(Path(f"/proc/{process}"))
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _net(entry) == network
    }


def _net(process: Path) -> str:
    try:
        return str((process / "ns/net").readlink())
    except OSError:
        return ""


@pytest.mark.timeout(600)
def test_a_newcomer_can_paste_each_block(clone: Path, terminals: dict[int, Shell]) -> None:
    """Each prints what the page says, nothing where it says nothing, and at the end nothing is left."""
    broker, other = terminals[1], terminals[2]
    blocks = pastes(ROOT / "README.md")
    assert {block.terminal for block in blocks} == {1, 2}

    for block in blocks:
        if block.terminal == 1:
            broker.start(block.command, block.matches)
            continue
        _, printed = other.run(block.command)
        assert block.expected or not printed, f"README.md:{block.line}\n{printed}"
        assert block.matches(printed), f"README.md:{block.line}\n{printed}\nis not\n{block.expected}"

    broker.interrupt()
    assert in_the_network_of(other.pid) == {other.pid}
    assert {entry.name for entry in clone.iterdir()} <= {entry.name for entry in ROOT.iterdir()}
    assert not (clone / "try").exists()
