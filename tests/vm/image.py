"""Builds what the lab's machine boots: a kernel, a first file system with the agent, and a Debian.

The Debian, some minutes to make, is made anew only when its packages or the worker's lock change. The worker
and the agent are packed each time: that takes a second.
"""

import gzip
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from devkit import ROOT
from devkit.run import debian, programs, system

FOLDER = ROOT / ".run" / "vm"
KERNEL, FIRST, DISK = FOLDER / "vmlinuz", FOLDER / "initramfs.gz", FOLDER / "root.img"
AGENT = Path(__file__).with_name("guest.py")

_SUITE, _PYTHON = "bookworm", "3.11"
_LOCK = ROOT / "requirements.lock"
_PACKAGES = (
    "e2fsprogs",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "nfs-common",
    "nfs-kernel-server",
    "nftables",
    "procps",
    "python3",
    "rabbitmq-server",
    "xfsprogs",
)
_MODULES = ("virtio_pci", "virtio_blk", "virtio_console")
"""What it takes to reach the disk with the Debian on it, and the host."""
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
_MOUNTED = ("data", "data2", "data3", "export")
_SPARE = 1.2, 96
"""The image's size: that of its files times the one, and so many MiB."""
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod "/$module"; done
tries=0
until /bin/busybox mount -t ext4 -o ro /dev/vda /new; do
    tries=$((tries + 1)); [ "$tries" -gt 50 ] && exec /bin/busybox sh; /bin/busybox sleep 0.1
done
/bin/busybox mount -t tmpfs -o mode=755 run /new/run
/bin/busybox mv /source /new/run/source
/bin/busybox umount /dev
exec /bin/busybox switch_root /new /usr/bin/python3 -B /run/source/guest.py
"""


def build() -> None:
    """Build whatever is missing or out of date; root on Debian.

    Raises:
        SystemExit: Something could not be fetched or made; the text says what.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with system.only_one(FOLDER):
        stamp, wanted = FOLDER / "made-of", _made_of()
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            try:
                _make_debian(FOLDER / "root")
            except RuntimeError as exc:
                raise SystemExit(f"{exc}\nThe lab's machine could not be built.") from None
            stamp.write_text(wanted)
        _pack_first(FOLDER / "root", FOLDER / "first")


def _made_of() -> str:
    parts = (*_PACKAGES, _LOCK.read_text(), Path(__file__).read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _make_debian(tree: Path) -> None:
    print("Building the lab's machine (some minutes, once) ...", file=sys.stderr, flush=True)
    shutil.rmtree(tree, ignore_errors=True)
    system.run(
        programs.find("mmdebstrap"),
        "--variant=minbase",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--include={','.join(_PACKAGES)}",
        _SUITE,
        str(tree),
        debian.mirror(),
    )
    system.run(
        *(str(ROOT / ".venv/bin/uv"), "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:"),
        *("--python-version", _PYTHON, "--python-platform", "x86_64-manylinux_2_28"),
        *("--target", str(tree / "opt/libraries"), "--requirements", str(_LOCK)),
    )
    system.run("chroot", str(tree), "python3", "-m", "compileall", "-q", "/opt/libraries")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    (tree / "etc/hostname").write_text("guest\n")
    for folder in _MOUNTED:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, KERNEL)
    for folder in (*_UNUSED, "boot"):
        shutil.rmtree(tree / folder, ignore_errors=True)
    size = sum(file.lstat().st_size for file in tree.rglob("*") if file.is_file()) >> 20
    DISK.unlink(missing_ok=True)
    times, more = _SPARE
    system.run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-d",
        str(tree),
        str(DISK),
        f"{int(size * times) + more}m",
    )


def _pack_first(tree: Path, folder: Path) -> None:
    """Pack the file system that the kernel starts from: the agent, the worker, and a few modules."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "dev", "new", "source"):
        (folder / name).mkdir(parents=True)
    shutil.copy(programs.find("busybox"), folder / "bin/busybox")
    (modules,) = (tree / "usr/lib/modules").iterdir()
    names = []
    for module in _in_order(modules):
        shutil.copy(modules / module, folder)
        names.append(Path(module).name)
    (folder / "modules").write_text("\n".join(names))
    shutil.copy(AGENT, folder / "source")
    for package in ("worker", "schemas"):
        shutil.copytree(
            ROOT / package, folder / "source" / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    _describe(folder / "source")
    init = folder / "init"
    init.write_text(_INIT)
    init.chmod(0o755)
    listing = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    packed = subprocess.run(
        [programs.find("cpio"), "--create", "--format=newc", "--quiet"],
        cwd=folder,
        input=listing.encode(),
        capture_output=True,
        check=True,
    )
    FIRST.write_bytes(gzip.compress(packed.stdout, compresslevel=1))


def _describe(folder: Path) -> None:
    """Say which version it is, for `importlib.metadata`."""
    told = folder / f"ccfs_worker-{version('ccfs-worker')}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: ccfs-worker\nVersion: {version('ccfs-worker')}\n"
    )


def _in_order(modules: Path) -> Iterator[str]:
    """Give the files of `_MODULES` and of what they need, each behind what it needs (modules.dep(5))."""
    needs = {
        Path(file).name.partition(".")[0]: [file, *others.split()]
        for file, _, others in (
            line.partition(":") for line in (modules / "modules.dep").read_text().splitlines()
        )
    }
    # A line names what is to be loaded first last.
    yield from dict.fromkeys(file for module in _MODULES for file in reversed(needs[module]))
