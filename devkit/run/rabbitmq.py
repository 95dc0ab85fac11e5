"""Run a private RabbitMQ node: own ports, own folder, gone with the process that started it.

It shares nothing with the system's broker: no ports, configuration, data, cookie or epmd. It has no epmd at
all: the node's distribution port is fixed, and `rabbitmqctl` is given it, so no daemon is left behind.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devkit.run import server, system
from devkit.run.leash import Leashed
from devkit.run.ports import free_ports

_STOP_TIMEOUT = 20.0
_POLL = 0.02
_LOG_LINES = 20
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"

# RabbitMQ turns busy waiting off, and each of the many small file reads of its boot then waits for two
# threads to wake up: on a virtual machine of 2 cores a start takes 2 s with this and 5 s without. An idle
# node still uses no more than 0.5% of a core.
_BUSY_WAIT = "+sbwt short +sbwtdcpu short +sbwtdio short"


@dataclass(frozen=True)
class TlsFiles:
    """What a TLS listener needs, as PEM files.

    Attributes:
        ca: Certificates that a client's certificate is checked against.
        cert: The server's certificate and its chain.
        key: The server's private key.
        require_client_cert: Whether a client without a certificate is refused.
    """

    ca: Path
    cert: Path
    key: Path
    require_client_cert: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a node runs.

    Attributes:
        name: The node's Erlang name. One whose host has a dot is a long name.
        host: The IPv4 address that clients connect to.
        peers_host: The IPv4 address that the other nodes of a cluster connect to.
        peers_port: The port of it; None takes a free one. It is the same for all nodes of a cluster, since
            there is no epmd to ask.
        cookie: What the nodes of a cluster have in common; None has Erlang make one up.
        tick: Seconds of silence after which it takes another node for gone; None has Erlang's default, 60.
            `net_ticktime` in `rabbitmq.conf` changes nothing: Erlang distribution runs before that is read.
        inside: The words before a command that make it run there, such as those of nsenter.
        patience: Seconds that a start, or a command, may take.
        spins: Whether its threads may spin before they sleep: a start is faster, as long as a core is free.
    """

    name: str = "ccfs@localhost"
    host: str = "127.0.0.1"
    peers_host: str = "127.0.0.1"
    peers_port: int | None = None
    cookie: str | None = None
    tick: int | None = None
    inside: tuple[str, ...] = ()
    patience: float = 180.0
    spins: bool = True

    @property
    def has_long_name(self) -> bool:
        """Whether Erlang counts the node's name as a long one."""
        return "." in self.name


_HERE = Place()


class BrokerStartError(RuntimeError):
    """A node did not start; the text holds its last log lines and where the logs are."""


class PrivateRabbitMQ:
    """A node, started on entry and ended on exit, together with everything it wrote.

    `start`, `stop` and `kill` keep ports and data between them; all three block, and may be called from any
    thread. The folder of a node that did not start is kept for its logs.

    With a `Place` it can be a node of a cluster.

    Attributes:
        url: Where clients connect, as guest.
        tls_url: The same over TLS; None without TLS files.
        management_url: Where its management API is, as guest; None without it.
        log_file: The node's log.
    """

    def __init__(
        self,
        *,
        conf: Sequence[str] = (),
        tls: TlsFiles | None = None,
        management: bool = False,
        port: int | None = None,
        place: Place = _HERE,
    ) -> None:
        """Set a node up; nothing runs yet.

        Args:
            conf: Further lines of `rabbitmq.conf`, such as `consumer_timeout = 5000`.
            tls: Files for a TLS listener beside the plain one.
            management: Whether the management API runs, too; a start then takes longer.
            port: Where clients connect; a free port by default.
            place: Where it runs.
        """
        self._installation = server.ensure()
        self._place = place
        free_port, self._tls_port, free_peers_port, self._management_port = free_ports(4)
        self._port = port or free_port
        self._peers_port = place.peers_port or free_peers_port
        self._ports = (self._port, self._tls_port) if tls else (self._port,)
        self._management = management
        self._folder = Path(tempfile.mkdtemp(prefix="rmq-"))
        self._node: Leashed | None = None
        login = f"guest:guest@{place.host}"
        self.url = f"amqp://{login}:{self._port}/"
        self.tls_url = f"amqps://guest:guest@localhost:{self._tls_port}/" if tls else None
        self.management_url = f"http://{login}:{self._management_port}/" if management else None
        self.log_file = self._folder / "rabbit.log"
        self._write_configuration([*_tls_lines(tls, f"{place.host}:{self._tls_port}"), *conf])
        self._write_cookie()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    @property
    def running(self) -> bool:
        """Whether the node's process is alive."""
        return self._node is not None and self._node.running

    @property
    def pid(self) -> int:
        """The id of a process whose descendant is the node. Raises RuntimeError before its start."""
        if self._node is None:
            raise RuntimeError("the node was not started")
        return self._node.pid

    def start(self) -> None:
        """Start the node with the data it had unless it runs, and return when clients are served.

        Raises:
            BrokerStartError: It ended, or did not answer in time.
        """
        node = self._node
        if node is None or not node.running:
            command = self._command("rabbitmq-server")
            node = self._node = Leashed(command, env=self._node_env(), output=self._folder / "startup.log")
        try:
            self._await_service(node)
        except BaseException:
            node.kill()
            raise

    def stop(self) -> None:
        """Stop the node in good order: it closes its connections and writes its queues."""
        if self._node is not None:
            self._node.terminate(_STOP_TIMEOUT)

    def kill(self) -> None:
        """End the node immediately, as a crash would; see `sync_queues` for queues just declared."""
        if self._node is not None:
            self._node.kill()

    def pause(self) -> None:
        """Freeze the node (SIGSTOP): it answers nothing and closes nothing, until `resume` or its end."""
        if self._node is not None:
            self._node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node go on."""
        if self._node is not None:
            self._node.signal(signal.SIGCONT)

    def sync_queues(self) -> None:
        """Write to disk which quorum queues exist.

        RabbitMQ (3.10) does it by itself within a second. If the node is killed before, the queue comes back
        without a leader, and its consumers wait forever.
        """
        self.rabbitmqctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    def wait(self) -> None:
        """Block until the node ends by itself."""
        if self._node is not None:
            self._node.wait()

    def rabbitmqctl(self, *words: str) -> str:
        """Run a `rabbitmqctl` command against the node, as `run_tool` does."""
        return self.run_tool("rabbitmqctl", *words)

    def run_tool(self, tool: str, *words: str) -> str:
        """Run one of RabbitMQ's tools against the node.

        Args:
            tool: Its name, such as `rabbitmq-queues`.
            words: The command and its arguments.

        Returns:
            What it printed.

        Raises:
            RuntimeError: It failed; the text says how.
        """
        names = ("--longnames",) if self._place.has_long_name else ()
        done = subprocess.run(
            self._command(tool, "--quiet", *names, "--node", self._place.name, *words),
            env=self._ctl_env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self._place.patience,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{tool} {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _command(self, script: str, *words: str) -> list[str]:
        return [*self._place.inside, *self._installation.command(script, *words)]

    def _write_configuration(self, lines: Sequence[str]) -> None:
        host = self._place.host
        listeners = [f"listeners.tcp.default = {host}:{self._port}", "log.console = false"]
        if self._management:
            listeners += [f"management.tcp.ip = {host}", f"management.tcp.port = {self._management_port}"]
        (self._folder / "rabbitmq.conf").write_text("\n".join([*listeners, *lines, ""]))
        plugins = "[rabbitmq_management].\n" if self._management else "[].\n"
        (self._folder / "enabled_plugins").write_text(plugins)

    def _write_cookie(self) -> None:
        if self._place.cookie is not None:
            cookie = self._folder / ".erlang.cookie"
            cookie.write_text(self._place.cookie)
            # Erlang takes no cookie that others may read.
            cookie.chmod(0o400)

    def _base_env(self) -> dict[str, str]:
        # Nothing else is inherited: a RABBITMQ_* or ERL_* of the user's must not reach this node.
        return {"PATH": system.search_path(), "HOME": str(self._folder), "LANG": "C.UTF-8"}

    def _ctl_env(self) -> dict[str, str]:
        # As ERL_FLAGS they also reach the little VM that rabbitmqctl starts only to have an epmd running.
        return self._base_env() | {
            "ERL_AFLAGS": f"-start_epmd false -erl_epmd_port {self._peers_port} -dist_listen false"
        }

    def _node_env(self) -> dict[str, str]:
        def inside(name: str) -> str:
            return str(self._folder / name)

        spinning = _BUSY_WAIT if self._place.spins else ""
        return self._base_env() | {
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_FLAGS": "-start_epmd false",
            # Else the start script stays as a parent, and a signal to it is slow to arrive.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_ADVANCED_CONFIG_FILE": inside("advanced.config"),
            "RABBITMQ_CONFIG_FILE": inside("rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": inside("rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": inside("enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": inside("config"),
            "RABBITMQ_LOGS": str(self.log_file),
            "RABBITMQ_MNESIA_BASE": inside("data"),
            "RABBITMQ_NODENAME": self._place.name,
            "RABBITMQ_USE_LONGNAME": str(self._place.has_long_name).lower(),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput {self._distribution()} {spinning}",
        }

    def _distribution(self) -> str:
        # With a name from the start, RabbitMQ leaves distribution alone and asks for no epmd.
        place = self._place
        address = "{" + place.peers_host.replace(".", ",") + "}"
        listen = f"-erl_epmd_port {self._peers_port} -kernel inet_dist_use_interface {address}"
        tick = f"-kernel net_ticktime {place.tick}" if place.tick else ""
        return f"{'-name' if place.has_long_name else '-sname'} {place.name} {listen} {tick}"

    def _await_service(self, node: Leashed) -> None:
        deadline = time.monotonic() + self._place.patience
        while not all(_serves(self._place.host, port) for port in self._ports):
            if not node.running:
                raise BrokerStartError(self._story("ended while starting"))
            if time.monotonic() > deadline:
                patience = f"{self._place.patience:.0f} s"
                raise BrokerStartError(self._story(f"did not serve clients within {patience}"))
            time.sleep(_POLL)

    def _story(self, what: str) -> str:
        # The cause comes first in what a start prints, ahead of pages of crash reports, and last in the log.
        printed = _telling_lines(self._folder / "startup.log")[:_LOG_LINES]
        logged = _telling_lines(self.log_file)[-_LOG_LINES:]
        return "\n".join([f"RabbitMQ {what}:", *printed, *logged, f"Its logs are in {self._folder}."])


def _tls_lines(tls: TlsFiles | None, address: str) -> list[str]:
    if tls is None:
        return []
    return [
        f"listeners.ssl.default = {address}",
        f"ssl_options.cacertfile = {tls.ca.absolute()}",
        f"ssl_options.certfile = {tls.cert.absolute()}",
        f"ssl_options.keyfile = {tls.key.absolute()}",
        "ssl_options.verify = verify_peer",
        f"ssl_options.fail_if_no_peer_cert = {str(tls.require_client_cert).lower()}",
    ]


def _serves(host: str, port: int) -> bool:
    """Return whether a broker answers; listeners open last, when queues can be declared."""
    with suppress(OSError), socket.create_connection((host, port), timeout=5) as call:
        call.sendall(_AMQP_HEADER)
        return call.recv(1) != b""
    return False


def _telling_lines(log: Path) -> list[str]:
    lines: list[str] = []
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if "error" in line.lower()] or lines
