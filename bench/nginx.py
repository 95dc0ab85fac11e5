"""The file server: nginx answers CC-FS's POST with a zip, over plain HTTP and over TLS.

It checks nothing of the request but reads the account out of its signature to choose the file.
"""

import shutil
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from bench.payload import Payload
from devkit.run import system
from devkit.run.leash import Leashed
from worker.ccfs import DOWNLOAD_PATH

_HOST = "127.0.0.1"
_START_TIMEOUT = 20.0
_PATIENCE = 5.0
_POLL = 0.02

# nginx serves files to GET alone: the refusal of the POST is answered with the file.
_CONFIGURATION = """\
daemon off;
user root;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    keepalive_timeout 600;
    open_file_cache max=16 inactive=600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ }}
    default_type "Application/Octet-stream;charset=UTF-8";
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    ssl_session_cache shared:tls:1m;
    map $http_authorization $payload {{
        "~^auth-v2/(?<account>[a-z]+)/" $account;
    }}
    server {{
        listen {host}:{port} backlog=4096;
        listen {host}:{tls_port} ssl backlog=4096;
        location = {path} {{
            error_page 405 =200 /payload;
            return 405;
        }}
        location = /payload {{
            internal;
            alias {files}/$payload.zip;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the file server answers.

    Attributes:
        plain: Its base URL over plain HTTP.
        tls: The same over TLS.
        ca_file: The authority behind its certificate.
    """

    plain: str
    tls: str
    ca_file: Path


def ensure() -> str:
    """Find nginx, or install it with apt-get when run as root.

    Raises:
        SystemExit: There is none and it cannot be installed.
    """
    if (found := shutil.which("nginx", path=system.search_path())) is None:
        system.install_package("nginx")
        found = shutil.which("nginx", path=system.search_path())
    if found is None:
        raise SystemExit("The benchmark needs nginx as its file server: install it (apt-get install nginx).")
    return found


class FileServer:
    """nginx, started on entry and ended on exit.

    Args:
        folder: An empty folder for what it writes.
        files: Where the payloads lie.
    """

    def __init__(self, folder: Path, files: Path) -> None:
        self._program = ensure()
        self._folder = folder
        self._files = files
        self._nginx: Leashed | None = None
        self._ports = _free_port(), _free_port()
        self.address = Address(
            plain=f"http://{_HOST}:{self._ports[0]}",
            tls=f"https://{_HOST}:{self._ports[1]}",
            ca_file=folder / "ca.pem",
        )

    def __enter__(self) -> Self:
        self._configure()
        configuration = str(self._folder / "nginx.conf")
        command = [self._program, "-e", str(self._folder / "error.log"), "-c", configuration]
        self._nginx = Leashed(
            command, env={"PATH": system.search_path()}, output=self._folder / "startup.log"
        )
        self._await_service(self._nginx)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._nginx is not None:
            self._nginx.terminate(_PATIENCE)

    def _configure(self) -> None:
        port, tls_port = self._ports
        text = _CONFIGURATION.format(
            folder=self._folder,
            files=self._files,
            host=_HOST,
            port=port,
            tls_port=tls_port,
            path=DOWNLOAD_PATH,
        )
        (self._folder / "nginx.conf").write_text(text)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._folder / "ca.pem")
        authority.issue_cert(_HOST).private_key_and_cert_chain_pem.write_to_path(self._folder / "server.pem")

    def _await_service(self, nginx: Leashed) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not _answers(self._ports[1]):
            if not nginx.running or time.monotonic() > deadline:
                story = (self._folder / "startup.log").read_text()
                raise RuntimeError(f"nginx did not start: {story.strip()}")
            time.sleep(_POLL)


def served_as(payload: Payload) -> str:
    """The file name under which a payload is found."""
    return f"{payload.name}.zip"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
        return True
    return False
