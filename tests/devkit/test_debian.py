"""RabbitMQ of another Debian suite: unpacked whole or not at all, and seen only by what runs in it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from devkit.run import debian, server, system

APT_GET = "echo https://mirror.example/debian/\n"
MMDEBSTRAP = """
for word; do :; done
shift $(($# - 3))
mkdir -p "$2/usr/lib/rabbitmq/lib/rabbitmq_server-4.9.1"
echo "$1 $3" >> "$2/../asked"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins for Debian's tools, and nothing unpacked yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(debian, "TREES", tmp_path / "trees")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "search_path", lambda: f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    add_tool(folder, "apt-get", APT_GET)
    add_tool(folder, "mmdebstrap", MMDEBSTRAP)
    return folder


def add_tool(folder: Path, name: str, script: str) -> None:
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}")
    tool.chmod(0o755)


@pytest.mark.usefixtures("tools")
def test_a_suite_is_unpacked_once_from_this_machines_mirror() -> None:
    tree = debian.unpack("trixie")

    assert debian.unpack("trixie") == debian.tree_of("trixie") == tree
    assert debian.version(tree) == "4.9.1"
    assert (debian.TREES / "asked").read_text() == "trixie https://mirror.example/debian/\n"


def test_what_was_unpacked_in_part_is_not_taken_for_the_whole(tools: Path) -> None:
    """The failure says what the tool said, and the next attempt starts over."""
    add_tool(tools, "mmdebstrap", MMDEBSTRAP + "echo no such suite >&2; exit 1\n")
    with pytest.raises(SystemExit, match="no such suite\nRabbitMQ of Debian trixie could not be unpacked"):
        debian.unpack("trixie")
    assert debian.tree_of("trixie") is None

    add_tool(tools, "mmdebstrap", MMDEBSTRAP)
    assert debian.unpack("trixie").exists()


def test_a_machine_without_a_mirror_of_debian_is_told_so(tools: Path) -> None:
    add_tool(tools, "apt-get", "")
    with pytest.raises(SystemExit, match="name no mirror of Debian"):
        debian.unpack("trixie")


@pytest.mark.usefixtures("tools")
def test_only_root_on_debian_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match=r"^RabbitMQ of Debian trixie can only .* as root on Debian\.$"):
        debian.unpack("trixie")


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("name", ["4.0", "../etc", "Trixie"])
def test_a_name_that_is_no_suites_is_refused(name: str) -> None:
    with pytest.raises(SystemExit, match="must be the name of a Debian suite, such as trixie"):
        debian.unpack(name)


@pytest.mark.usefixtures("tools")
def test_rabbitmq_names_the_suite_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the machine's own server is taken."""
    monkeypatch.setenv("RABBITMQ", "trixie")
    assert server.find() is None
    installation = server.ensure()
    assert server.find() == installation
    command = installation.command("rabbitmqctl", "version")
    assert str(debian.TREES / "trixie") in command
    assert command[-2:] == ["/usr/lib/rabbitmq/bin/rabbitmqctl", "version"]

    monkeypatch.setenv("RABBITMQ", "")
    own = server.find()
    assert own is None or own.command("rabbitmqctl") == [str(own.scripts / "rabbitmqctl")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_command_sees_the_trees_programs_and_nobody_else_does(tmp_path: Path) -> None:
    """The tree covers /usr for that command alone; other files are where they are."""
    program = Path("/usr/only-in-the-tree")
    (tmp_path / "usr").mkdir()
    # It needs no libraries, of which the tree has none. Ubuntu has a script in its place.
    wrapped = Path("/sbin/ldconfig.real")
    shutil.copy(wrapped if wrapped.exists() else "/sbin/ldconfig", tmp_path / "usr" / program.name)
    config = tmp_path / "ld.so.conf"
    config.write_text("")

    done = subprocess.run(
        [*debian.inside(tmp_path), str(program), "-v", "-N", "-X", "-f", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, program.exists()) == (0, False), done.stderr
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
