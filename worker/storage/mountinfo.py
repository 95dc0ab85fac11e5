"""What is mounted at a directory, and what of that makes files less safe: proc(5), /proc/self/mountinfo."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from worker.errors import one_line
from worker.finding import Finding, doubtful, fine, wrong
from worker.storage.mount import opened

_NAME = "storage mount"
_MNT_ID = re.compile(r"^mnt_id:\s*([0-9]+)$", re.MULTILINE)
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")
_FIRST_OPTIONAL = 6
"""The place of the first optional field. There may be any number of them, also none; a dash ends them."""
_NFS = frozenset({"nfs", "nfs4"})


class _Flaw(NamedTuple):
    """Something of a mount that one of these kinds and options has; an empty set stands for any, or none."""

    kinds: frozenset[str]
    options: frozenset[str]
    harm: str
    remedy: str


_FLAWS = (
    _Flaw(
        frozenset({"tmpfs", "ramfs"}),
        frozenset(),
        "files are in memory, and gone with the machine or the pod",
        "mount a volume, but for a trial",
    ),
    _Flaw(
        frozenset({"overlay"}),
        frozenset(),
        "files are in a container's layer, and gone with it",
        "mount a volume, but for a trial",
    ),
    _Flaw(
        _NFS,
        frozenset({"soft", "softerr"}),
        "calls fail while the server is slow, and what it had taken may be lost",
        "mount it `hard`",
    ),
    _Flaw(
        _NFS,
        frozenset({"noac"}),
        "each write and each look waits for the server",
        "mount it without `noac`: the worker does not need that",
    ),
    _Flaw(
        frozenset(),
        frozenset({"nobarrier", "barrier=0"}),
        "a power cut may take finished files away",
        "mount it with barriers, unless the disk's cache outlives a power cut",
    ),
)


class Mount(NamedTuple):
    """A mount.

    Attributes:
        kind: The type of its file system, such as `nfs4`.
        point: Where it is.
        options: Those of the mount and those of its file system.
    """

    kind: str
    point: str
    options: frozenset[str]


def examine_mount(root: Path) -> Iterator[Finding]:
    """Say what the mount that a directory lies on is, and what is wrong with it. Blocks.

    Yields:
        Nothing where the system does not tell.

    Raises:
        OSError: The directory cannot be opened.
    """
    mount = _mount_of(root)
    if mount is None:
        return
    flaws = list(flaws_of(mount))
    yield from flaws
    if not flaws:
        # Only the server knows whether the export is `async`, and forgets in a power cut what it confirmed.
        hint = "; see that the server exports it `sync`" if mount.kind in _NFS else ""
        yield fine(_NAME, f"{_described(mount)}{hint}")


def flaws_of(mount: Mount) -> Iterator[Finding]:
    """Say what of a mount endangers files, or costs much."""
    if "ro" in mount.options:
        yield wrong(_NAME, f"{_described(mount)} is read-only", "mount it to be written to")
    for flaw in _FLAWS:
        if mount.kind in flaw.kinds or not flaw.kinds:
            option = min(flaw.options & mount.options, default="")
            if option or not flaw.options:
                detail = f"{_described(mount)}{option and f', {option}'}: {flaw.harm}"
                yield doubtful(_NAME, detail, flaw.remedy)


def read_mounts(mountinfo: str) -> dict[int, Mount]:
    """Read the text of /proc/self/mountinfo: mounts by their ids. A line of another form is left out."""
    mounts = {}
    # Only these are separators: the kernel leaves every other blank in a name as it is.
    for line in mountinfo.split("\n"):
        fields = line.split(" ")
        try:
            number, end = int(fields[0]), fields.index("-", _FIRST_OPTIONAL)
            kind, _source, of_file_system = fields[end + 1 : end + 4]
        except ValueError:
            continue
        options = frozenset(f"{fields[5]},{of_file_system}".split(","))
        mounts[number] = Mount(_unescaped(kind), _unescaped(fields[4]), options)
    return mounts


def _mount_of(root: Path) -> Mount | None:
    with opened(root) as directory:
        try:
            # By the id, and not by the path: another mount may lie over it.
            found = _MNT_ID.search(Path(f"/proc/self/fdinfo/{directory}").read_text())
            mounts = read_mounts(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
        except FileNotFoundError:
            return None
    return mounts.get(int(found[1])) if found else None


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def _described(mount: Mount) -> str:
    return one_line(f"{mount.kind} at {mount.point}")
