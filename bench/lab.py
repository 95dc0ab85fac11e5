"""The place where samples are taken: a broker, a file server, storage on each file system."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import payload
from bench.contestants import SECRET_KEY, Surroundings
from bench.nginx import Address, FileServer, served_as
from bench.setting import Setting, Volume
from devkit.run.rabbitmq import PrivateRabbitMQ

_RAM = Path("/dev/shm")  # noqa: S108 - Linux's RAM file system; a folder of our own is made in it
_DISK = Path(".run")


@dataclass(frozen=True, slots=True)
class Lab:
    """Made by `open_lab`.

    Attributes:
        amqp_url: The broker.
        rabbitmq_version: Its version.
        files: The file server.
        keys: The directory of the accounts' keys.
        volumes: A directory on each file system.
    """

    amqp_url: str
    rabbitmq_version: str
    files: Address
    keys: Path
    volumes: dict[Volume, Path]

    def surroundings(self, setting: Setting, root: Path) -> Surroundings:
        """The peers and places that a contestant works with."""
        return Surroundings(
            amqp_url=self.amqp_url,
            base_url=self.files.tls if setting.tls else self.files.plain,
            ca_file=self.files.ca_file,
            root=root,
            keys=self.keys,
        )

    @contextmanager
    def storage(self, setting: Setting) -> Iterator[Path]:
        """A new storage root for one sample.

        Thousands of files on disk stay until the lab closes: deleting them makes the file system slow
        for a while, and that while would fall into the next sample.
        """
        root = self.volumes[setting.volume] / secrets.token_hex(4)
        root.mkdir()
        yield root
        if setting.volume is Volume.RAM or setting.payload is not payload.SMALL:
            shutil.rmtree(root)


@contextmanager
def open_lab() -> Iterator[Lab]:
    """Start everything that samples need, and remove everything that they left."""
    _DISK.mkdir(exist_ok=True)
    with _folder(_RAM) as ram, _folder(_DISK) as disk, PrivateRabbitMQ() as broker:
        served, nginx = ram / "served", ram / "nginx"
        for folder in (served, nginx, ram / "keys", ram / "storage"):
            folder.mkdir()
        for each in payload.PAYLOADS:
            payload.write(each, served / served_as(each))
            (ram / "keys" / each.name).write_text(SECRET_KEY)
        with FileServer(nginx, served) as server:
            volumes = {Volume.RAM: ram / "storage", Volume.DISK: disk.absolute()}
            version = broker.rabbitmqctl("version").strip()
            yield Lab(broker.url, version, server.address, ram / "keys", volumes)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ccfs-bench-", dir=parent) as folder:
        yield Path(folder)
