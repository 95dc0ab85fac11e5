"""What is read of /proc/self/mountinfo, and what of a mount is said to endanger files."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.mountinfo import Mount, examine_mount, flaws_of, read_mounts

NFS4 = "98 27 0:52 / /data rw,noatime shared:47 master:2 - nfs4 nfs:/bills rw,vers=4.2,{how},local_lock=none"
FLAWS = {
    "hard": [],
    "hard,nolock": [],
    "soft": ["soft"],
    "softerr": ["softerr"],
    "hard,sync,noac": ["noac"],
    "soft,noac": ["soft", "noac"],
}


@pytest.mark.parametrize("how", FLAWS)
def test_what_an_nfs_mount_is_warned_of(how: str) -> None:
    mount = read_mounts(NFS4.format(how=how))[98]

    flaws = list(flaws_of(mount))

    assert [finding.detail.partition(", ")[2].partition(":")[0] for finding in flaws] == FLAWS[how]
    assert all(finding.ok and finding.remedy for finding in flaws)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("29 1 0:4 / /data rw - tmpfs tmpfs rw,size=4k", "in memory"),
        ("29 1 0:4 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b", "in a container's layer"),
        ("29 1 8:1 / /data rw - ext4 /dev/sda1 rw,nobarrier", "a power cut may take"),
        ("29 1 8:1 / /data rw - ext4 /dev/sda1 rw,barrier=0", "a power cut may take"),
        ("29 1 8:1 / /data ro,relatime - xfs /dev/sda1 rw", "read-only"),
        ("29 1 8:1 / /data rw,relatime - xfs /dev/sda1 ro", "read-only"),
    ],
)
def test_what_other_mounts_are_warned_of(line: str, says: str) -> None:
    (flaw,) = flaws_of(read_mounts(line)[29])

    assert says in flaw.detail
    assert flaw.ok is (says != "read-only")


@pytest.mark.parametrize(
    "line",
    [
        "29 1 8:1 / /data rw,relatime - xfs /dev/sda1 rw,attr2,noquota",
        "29 1 8:1 / /soft rw - ext4 /dev/soft rw,errors=remount-ro",
        "29 1 0:4 / /data rw - cifs //server/soft rw,soft,vers=3.1.1",
    ],
)
def test_what_is_no_flaw(line: str) -> None:
    """Neither a word within another, nor the default of SMB, which has no durable `hard`."""
    assert list(flaws_of(read_mounts(line)[29])) == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "29",
        "x 1 8:1 / /data rw - ext4 /dev/sda1 rw",
        "29 1 8:1 / /data rw ext4 /dev/sda1 rw",
        "29 1 8:1 / /data rw -",
        "29 1 8:1 / /data rw - ext4",
        "29 1 - ext4 /dev/sda1 rw",
    ],
)
def test_lines_of_another_form_are_left_out(line: str) -> None:
    good = "30 1 8:1 / /good rw - ext4 /dev/sda1 rw"

    assert set(read_mounts(f"{line}\n{good}\n")) == {30}


@given(st.text())
def test_no_text_makes_reading_fail(text: str) -> None:
    read_mounts(text)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
TAGS = st.sampled_from(["shared:7", "master:3", "propagate_from:2", "unbindable", "of-a-later-kernel"])


@given(point=NAMES, tags=st.lists(TAGS), source=NAMES)
def test_names_and_optional_fields_of_every_kind(point: str, tags: list[str], source: str) -> None:
    """The kernel escapes blank, tab, newline, backslash and # (fs/proc_namespace.c), and nothing else."""
    optional = "".join(f"{tag} " for tag in tags)
    line = f"7 1 0:9 / {escaped(point)} rw,noatime {optional}- ext4 {escaped(source)} rw,errors=continue"

    mounts = read_mounts(f"{line}\n")

    assert mounts == {7: Mount("ext4", point, frozenset({"rw", "noatime", "errors=continue"}))}


def escaped(name: str) -> str:
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in name)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, at a name that is hard to read."""
    point = tmp_path / "a b\tc\nd\\040#\r\x85é"
    point.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=False, capture_output=True)
    if os.geteuid() != 0 or made.returncode:
        pytest.skip("mounting a volume needs root, and a machine that lets root do it")
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


def test_a_real_mount_is_found_below_its_directory(mounted: Path) -> None:
    below = mounted / "bills"
    below.mkdir()

    (finding,) = examine_mount(below)

    assert finding.ok
    assert finding.detail.startswith("tmpfs at ")
    assert "in memory" in finding.detail


def test_a_mount_over_another_is_the_one_that_counts(mounted: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", mounted], check=True)
    try:
        details = [finding.detail for finding in examine_mount(mounted)]
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)

    assert any("read-only" in detail for detail in details)
