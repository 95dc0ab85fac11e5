"""The machine's own NFS server, which exports a directory, and mounts of it on the same machine."""

from tests.vm.lab import DATA
from tests.vm.machine import Machine

DISK = "/export"
"""Where the server's disk is mounted."""
SHARE = f"{DISK}/cdr"
"""What it exports."""
_CLIENT, _THREADS = "127.0.0.1", 8
_GRACE = 10
"""Seconds that a client may take to claim its locks after a restart of the server, and that a lease holds."""
_SERVE = f"""
mkdir -p {SHARE} /var/lib/nfs/v4recovery /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/rpc_pipefs
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t nfsd nfsd /proc/fs/nfsd 2>/dev/null
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
rpcbind -w
rpc.statd --no-notify
nfsdcld
echo {_GRACE} > /proc/fs/nfsd/nfsv4leasetime
echo {_GRACE} > /proc/fs/nfsd/nfsv4gracetime
rpc.nfsd --host {_CLIENT} {_THREADS}
rpc.mountd
"""


async def serve(machine: Machine) -> None:
    """Start the server; its disk is mounted."""
    await machine.sh(_SERVE, timeout=120)


async def stop(machine: Machine) -> None:
    """Stop the server: it answers nothing, as one that has gone."""
    await machine.sh("rpc.nfsd 0")


async def resume(machine: Machine) -> None:
    """Start the server again."""
    await machine.sh(f"rpc.nfsd --host {_CLIENT} {_THREADS}")


async def export(machine: Machine, options: str) -> None:
    """Export the directory, in place of how it was exported before."""
    whole = f"{options},fsid=7,no_subtree_check,insecure"
    await machine.sh(f"mkdir -p {SHARE}; exportfs -ua; exportfs -i -o {whole} {_CLIENT}:{SHARE}")


async def mount(machine: Machine, *, where: str = DATA, version: str = "4.2", how: str = "hard") -> None:
    """Mount what is exported."""
    options = f"vers={version},{how},proto=tcp"
    await machine.sh(f"mount -t nfs -o {options} {_CLIENT}:{SHARE} {where}", timeout=120)
