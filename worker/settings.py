"""The worker's settings: environment variables with the prefix `WORKER_`, a `.env` file, or secret files.

`WORKER_SECRETS_DIR` names a directory of files called like the variables (`WORKER_AMQP__URL`), which is
how a mounted Secret provides them. The environment wins over `.env`, and both win over secret files.
"""

import difflib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableSecretsError
from yarl import URL

from worker.net.urls import has_stray_at, of_each_host, with_login

_WORDS = {
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_parsing": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "model_type": "is a group of settings: set {variable}__… instead",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} items",
    "too_short": "must not be empty",
}
"""What pydantic's errors, by type, are to people who set variables; they all follow the variable's name."""

PREFIX = "WORKER_"
DELIMITER = "__"
SECRETS_DIR = "WORKER_SECRETS_DIR"

_JOB_TIMEOUT = 1500.0
_PATIENCE = 60.0
"""Seconds that a job waits in hand for its place at most."""


class SettingsError(Exception):
    """The settings are wrong.

    Attributes:
        lines: One line for each wrong setting, each naming its variable.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise PydanticCustomError("finite", "must be a finite number of seconds")
    return value


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        _check_url(value, schemes)
        return value

    return AfterValidator(check)


def _check_url(text: str, schemes: tuple[str, ...]) -> None:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    # The value is not shown: it may hold a password.
    try:
        url = URL(text)
    except ValueError:
        raise PydanticCustomError("url", f"must be a URL: {wanted}host:port") from None
    if url.scheme not in schemes or not url.host:
        raise PydanticCustomError("url", f"must be a URL: {wanted}host:port")


def _broker_url(value: SecretStr) -> SecretStr:
    for url in of_each_host(value.get_secret_value()):
        _check_url(url, ("amqp", "amqps"))
    return value


def _encoded_login(value: SecretStr) -> SecretStr:
    if value.get_secret_value().count("://") > 1:
        raise PydanticCustomError(
            "hosts", "must be one URL, which may list hosts: user:password@h1:5672,h2:5672"
        )
    if has_stray_at(value.get_secret_value()):
        raise PydanticCustomError(
            "login",
            "has a / ? # or @ in its user or password that is not percent-encoded: "
            "write %2F for /, %3F for ?, %23 for #, %40 for @",
        )
    return value


def _management_url(value: SecretStr) -> SecretStr:
    for text in of_each_host(value.get_secret_value()):
        _check_url(text, ("http", "https"))
        url = URL(text)
        if not url.user or not url.password or url.query_string or url.fragment:
            raise PydanticCustomError("url", "must be a URL with a login: https://user:password@host:15671/")
    return value


def _no_login(value: str) -> str:
    if "@" in value:
        raise PydanticCustomError(
            "login", "must hold no user and password: CC-FS is asked with the accounts' keys"
        )
    return value


def _bare(value: str) -> str:
    url = URL(value)
    if url.path not in {"", "/"} or url.query_string or url.fragment:
        raise PydanticCustomError("url", "must end after host:port: the worker adds CC-FS's path, and signs")
    return value.rstrip("/")


def _bare_proxy(value: str) -> str:
    url = URL(value)
    if url.path not in {"", "/"} or url.query_string or url.fragment or "@" in value:
        raise PydanticCustomError("url", "must be http://host:port, without a login and without a path")
    return value.rstrip("/")


def _json_list(of: str, example: str) -> BeforeValidator:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            found = from_json(value, allow_inf_nan=False)
        except ValueError:
            found = None
        if not isinstance(found, list):
            raise PydanticCustomError("json", f"must be a JSON list of {of}, such as {example}")
        return found

    return BeforeValidator(read)


_SECONDS = Field(json_schema_extra={"unit": "seconds"})
_BYTES = Field(json_schema_extra={"unit": "bytes"})

Seconds = Annotated[float, Field(gt=0), AfterValidator(_finite), _SECONDS]
Wait = Annotated[float, Field(ge=0.001, le=86_400)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._:-]+$")]
HostName = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9._-]+$")]
Bytes = Annotated[int, Field(ge=0), _BYTES]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class AmqpGroup(_Group):
    """The broker."""

    url: Annotated[
        SecretStr,
        AfterValidator(_encoded_login),
        AfterValidator(_broker_url),
        Field(json_schema_extra={"format": "uri"}),
    ] = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """Where RabbitMQ is, with login and virtual host: `amqps://user:password@host:5671/vhost`. A `/`,
    `?`, `#` or `@` in user, password or virtual host is percent-encoded: `%2F`, `%3F`, `%23`, `%40`. Several
    hosts, `user:password@h1:5672,h2:5672/vhost`, are tried in random order for each connection; an IPv6
    address stands in brackets. Read again for each session, and so are login and certificates."""
    username: Annotated[str, Field(min_length=1)] | None = None
    """The user, apart from the URL and instead of the one in it, with no character encoded."""
    password: Annotated[SecretStr, Field(min_length=1)] | None = None
    """The password, apart from the URL and instead of the one in it, with no character encoded."""
    ca_file: Path | None = None
    """PEM file of the authorities to trust for `amqps://`; the system's when unset."""
    cert_file: Path | None = None
    """PEM file of a client certificate, when the broker asks for one."""
    key_file: Path | None = None
    """PEM file of its private key; looked for in `cert_file` when unset."""
    management_url: (
        Annotated[
            SecretStr,
            AfterValidator(_encoded_login),
            AfterValidator(_management_url),
            Field(json_schema_extra={"format": "uri"}),
        ]
        | None
    ) = None
    """Where RabbitMQ's management API is, with a login: `https://user:password@host:15671/`. It may list
    hosts. The user has the tag `management` or `monitoring`, and some permission on the virtual host. Only
    `check` and the metrics use it, for members and policies of queues. `ca_file`, `cert_file` and `key_file`
    serve it, too. A worker that starts with one reads it again before each question."""
    heartbeat: Annotated[int, Field(ge=1, le=300), _SECONDS] = 15
    """Seconds between two heartbeats; a dead connection is noticed within three."""
    connect_timeout: Seconds = 15.0
    """Seconds to open a connection; several hosts have equal parts of it."""
    publish_timeout: Seconds = 15.0
    """Seconds after which readiness, status and log say that the broker has not confirmed a message. That
    publishes nothing again: a late confirm counts. A copy for the failed jobs is left out after as long, and
    commands give up."""
    consumer_timeout: Seconds = 1800.0
    """Seconds after which this broker closes a channel whose message is not acknowledged (its own
    `consumer_timeout`, 30 minutes unless configured); the worker's deadlines must lie below."""
    declare: bool = True
    """Declare queues and exchanges at start; false only checks that they exist."""
    delivery_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Deliveries after which the broker gives up on a job message."""
    jobs_queue: Name = "ccfs.jobs"
    """The queue of jobs."""
    results_exchange: Name = "ccfs.results"
    """The topic exchange of outcomes."""
    results_queue: Name = "ccfs.results"
    """The queue that is bound to it with `#`, so that no outcome is lost before a consumer exists."""
    results_queue_enabled: bool = True
    """False leaves that queue out: then some consumer's own queue must be bound."""
    dead_queue: Name = "ccfs.dead"
    """The queue of parked messages."""
    failed_queue: Name = "ccfs.failed"
    """The queue that keeps failed jobs for operators."""
    failed_keep: Annotated[int, Field(ge=0, le=10_000_000)] = 100_000
    """Failed jobs that it keeps; above, the oldest give way. 0 keeps none. Takes effect when the queue is
    declared: an existing one stays as it is until somebody deletes it."""

    @property
    def address(self) -> str:
        """The URL with the login in it, wherever that comes from: a secret."""
        password = None if self.password is None else self.password.get_secret_value()
        return with_login(self.url.get_secret_value(), self.username, password)

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if self.username is not None and self.password is None:
            clash = {"WORKER_AMQP__PASSWORD": "is required beside WORKER_AMQP__USERNAME"}
            raise PydanticCustomError("clash", "settings clash", {"clashes": clash})
        return self


class CcfsGroup(_Group):
    """The file service."""

    base_url: Annotated[
        str,
        AfterValidator(_no_login),
        _url("https", "http"),
        AfterValidator(_bare),
        Field(json_schema_extra={"format": "uri"}),
    ]
    """Where CC-FS, or the NSLB before it, is: `https://ip:port`."""
    host_header: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=255)] | None = None
    """The Host (`ip:port`) that CC-FS expects, where a proxy makes it differ from `base_url`."""
    proxy_url: (
        Annotated[
            str,
            _url("http"),
            AfterValidator(_bare_proxy),
            Field(json_schema_extra={"format": "uri", "pattern": r"^http://[^/?#@\s]+/?$"}),
        ]
        | None
    ) = None
    """A proxy that leads to CC-FS by CONNECT: `http://host:port`; none when unset."""
    ca_file: Path | None = None
    """PEM file of the authorities to trust; the system's when unset."""
    tls_server_name: HostName | None = None
    """The name that CC-FS's certificate has, where that is not the address in `base_url`."""
    keep_alive: bool = True
    """False gives each request a connection of its own, for an upstream that may answer a request twice: over
    HTTP/1.1 nothing tells a late second answer from the answer to the next request."""
    danger_accept_any_certificate: bool = False
    """True turns off TLS verification: a man in the middle can then read and change everything."""
    connect_timeout: Seconds = 10.0
    """Seconds for name lookup, TCP and TLS together."""
    idle_timeout: Seconds = 60.0
    """Seconds without a byte from CC-FS."""
    pause_after: Annotated[int, Field(ge=1, le=1000)] = 3
    """Failures in a row without any answer after which intake pauses until CC-FS answers a probe."""
    max_requests_per_second: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Requests of this worker process per second; unbounded when unset."""


class CredentialsGroup(_Group):
    """The accounts' keys."""

    dir: Path
    """A directory with one file per appId that holds its secret key."""


class StorageGroup(_Group):
    """The shared storage."""

    root: Path
    """An existing, writable directory: the mounted volume."""
    max_file_bytes: Annotated[int, Field(gt=0), _BYTES] = 10 * 1024**3
    """Larger files are refused."""
    min_free_bytes: Bytes = 256 * 1024**2
    """Bytes that stay free on the volume; below, intake pauses."""
    stale_after: Seconds = 86_400.0
    """Seconds after which an untouched temporary file counts as a leftover and is removed."""
    check_interval: Seconds = 5.0
    """Seconds between two looks at the volume."""
    hang_after: Seconds = 30.0
    """Seconds without an answer after which the volume, or the key directory, counts as out and intake
    pauses; longer than it takes to flush the largest file to disk."""
    require_mount: bool = False
    """True refuses a root that is no mount point, at start and later: files would go to the disk below it."""
    restart_on_stale_mount: bool = False
    """True has `/livez` fail while the root is a stale mount (ESTALE), so that Kubernetes ends the container.
    Whether the next one gets a new mount depends on who mounts: docs/kubernetes.md, Storage."""
    file_mode: Annotated[str, Field(pattern=r"^0?[67][0-7]{2}$")] | None = None
    """Permissions of files, octal, such as `0640`; what the process's umask leaves when unset."""
    dir_mode: Annotated[str, Field(pattern=r"^[0-7]?7[0-7]{2}$")] | None = None
    """Permissions of new directories, octal, such as `2770`; what the umask leaves when unset."""


class RetryGroup(_Group):
    """The attempts."""

    delays: Annotated[
        tuple[Wait, ...], _json_list("seconds", "[10, 60, 300]"), Field(max_length=32), _SECONDS
    ] = (
        10.0,
        60.0,
        300.0,
        900.0,
    )
    """JSON list of seconds, one per wait; one more attempt than there are waits."""
    not_found_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Attempts in all while CC-FS says that the file does not exist."""


class AccountsGroup(_Group):
    """Accounts whose key is refused, and whose jobs wait."""

    hold_at_most: Annotated[float, Field(ge=0, le=30 * 86_400), AfterValidator(_finite), _SECONDS] = 43_200.0
    """Seconds for which a job waits for its account's key, counted from its first hold, until it fails with
    `UNAUTHORIZED` or `UNKNOWN_APP`. 0 lets it fail immediately."""
    probe_interval: Annotated[float, Field(ge=0.1, le=3600), _SECONDS] = 60.0
    """Seconds at least between two tries of a held account. Its jobs wait for one to five times as long
    before they come back, the longer the more there are."""


class HttpGroup(_Group):
    """The server of probes and metrics."""

    host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus come from outside the pod
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """The port to listen on; 0 takes any free one."""
    allowed_hosts: Annotated[
        tuple[HostName, ...],
        _json_list("names", '["ccfs-worker.calls.svc"]'),
        Field(max_length=100, json_schema_extra={"format": "names"}),
    ] = ()
    """JSON list of the names by which clients may ask, such as a Service's. Addresses, as kubelet and
    Prometheus ask by, and `localhost` always work; other names are refused (421), so that no web page reads
    the status through a browser that its own name leads here (DNS rebinding)."""


class LogGroup(_Group):
    """The log, on standard output."""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    ] = "INFO"
    """The least severe lines to write."""
    format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""


class Sourced(BaseSettings):
    """Reads its fields from the environment, `.env` and secret files."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_file=".env",
        env_ignore_empty=True,
        enable_decoding=False,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it so
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; a secrets directory is one only when a variable names it."""
        found = (init_settings, env_settings, dotenv_settings)
        directory = os.environ.get(SECRETS_DIR)
        return (*found, _secret_files(file_secret_settings, directory)) if directory else found


class BrokerSettings(Sourced):
    """The part that commands need which only talk with the broker."""

    amqp: AmqpGroup = Field(default_factory=AmqpGroup)
    retry: RetryGroup = Field(default_factory=RetryGroup)
    accounts: AccountsGroup = Field(default_factory=AccountsGroup)


class CcfsSettings(Sourced):
    """The part that reaching CC-FS needs."""

    ccfs: CcfsGroup


class CredentialsSettings(Sourced):
    """The part that reading keys needs."""

    credentials: CredentialsGroup


class StorageSettings(Sourced):
    """The part that the storage needs."""

    storage: StorageGroup


class SigningSettings(CcfsSettings, CredentialsSettings):
    """The part that signing a request needs."""


class FetchSettings(SigningSettings, StorageSettings):
    """The part that bringing one file here needs."""

    job_timeout: Seconds = _JOB_TIMEOUT
    """Seconds that one attempt may take in all."""


class Settings(Sourced):
    """Everything that can be set."""

    amqp: AmqpGroup = Field(default_factory=AmqpGroup)
    ccfs: CcfsGroup
    credentials: CredentialsGroup
    storage: StorageGroup
    retry: RetryGroup = Field(default_factory=RetryGroup)
    accounts: AccountsGroup = Field(default_factory=AccountsGroup)
    http: HttpGroup = Field(default_factory=HttpGroup)
    log: LogGroup = Field(default_factory=LogGroup)
    concurrency: Annotated[int, Field(ge=1, le=2000)] = 16
    """Concurrent downloads; also the prefetch of the job consumer. Each takes up to 4 file descriptors, and
    the worker itself 192, of those that the hard limit allows (`ulimit -Hn`)."""
    concurrency_per_app: Annotated[int, Field(ge=1)] | None = None
    """Concurrent downloads of one account; as many as `concurrency` when unset."""
    job_timeout: Seconds = _JOB_TIMEOUT
    """Seconds that one attempt at a job may take in all. With the minute for which it may wait for its place
    before, that must lie below `amqp.consumer_timeout`."""
    shutdown_grace: Annotated[float, Field(ge=0), AfterValidator(_finite), _SECONDS] = 30.0
    """Seconds that downloads in flight have to finish after SIGTERM."""

    @property
    def patience(self) -> float:
        """Seconds that a job waits in hand for its place at most: no longer than its attempt may take."""
        return min(_PATIENCE, self.job_timeout)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if clashes := dict(self._clashes()):
            raise PydanticCustomError("clash", "settings clash", {"clashes": clashes})
        return self

    def _clashes(self) -> Iterator[tuple[str, str]]:
        limit = f"must be below WORKER_AMQP__CONSUMER_TIMEOUT ({self.amqp.consumer_timeout:g})"
        if self.patience + self.job_timeout >= self.amqp.consumer_timeout:
            with_wait = f"with the {self.patience:g} s that a job may wait for its place"
            yield "WORKER_JOB_TIMEOUT", f"{with_wait} {limit}: the broker would take the job away first"
        if self.shutdown_grace >= self.amqp.consumer_timeout:
            yield "WORKER_SHUTDOWN_GRACE", f"{limit}: the broker would take the jobs away first"
        if self.storage.stale_after <= self.job_timeout:
            yield (
                "WORKER_STORAGE__STALE_AFTER",
                f"must be above WORKER_JOB_TIMEOUT ({self.job_timeout:g}): running downloads would be swept",
            )
        if self.amqp.key_file is not None and self.amqp.cert_file is None:
            yield "WORKER_AMQP__CERT_FILE", "is required beside WORKER_AMQP__KEY_FILE"


_Part = TypeVar("_Part", bound=Sourced)


def load() -> Settings:
    """Read and validate the settings; touches nothing else.

    Raises:
        SettingsError: Something is missing or wrong.
    """
    return load_part(Settings)


def load_part(part: type[_Part], **given: Any) -> _Part:  # noqa: ANN401 - as pydantic takes them
    """Read and validate only a part of the settings, for commands that need no more.

    Args:
        part: Which.
        given: Values that win over every source, by field; those of a group as a mapping.

    Raises:
        SettingsError: Something in that part is missing or wrong.
    """
    with _readable_sources():
        return part(**given)


@contextmanager
def _readable_sources() -> Iterator[None]:
    """Raise whatever the sources, or the values in them, have wrong in the block as a SettingsError."""
    directory = os.environ.get(SECRETS_DIR)
    try:
        if directory and (odd := [*_odd_secrets(Path(directory))]):
            raise SettingsError(odd)
        yield
    except ValidationError as exc:
        wrong: dict[str, str] = {}
        for error in exc.errors(include_input=False, include_url=False):
            for variable, problem in _problems(error):
                wrong.setdefault(variable, f"{variable}: {problem}")
        raise SettingsError(wrong.values()) from None
    except UnreadableSecretsError as exc:
        raise SettingsError([f"{SECRETS_DIR}: {directory} cannot be read: {exc}"]) from exc
    except UnicodeDecodeError:
        # The original error shows the bytes, which may be a secret.
        raise SettingsError([f".env, or a file in {SECRETS_DIR}, is not UTF-8 text"]) from None
    except OSError as exc:
        raise SettingsError([f"{exc.filename} cannot be read: {os.strerror(exc.errno or 0)}"]) from exc


def _odd_secrets(directory: Path) -> Iterator[str]:
    """Say what pydantic-settings would leave out without a word: no directory, or no file in it.

    It never follows a link that leads out of the directory. Those of a mounted Secret stay inside.
    """
    if not directory.is_dir():
        yield f"{SECRETS_DIR}: {directory} is no directory: mount it, or unset the variable"
        return
    known, root = {place.variable for place in places()}, directory.resolve()
    for entry in sorted(directory.iterdir()):
        name = entry.name.upper()
        if name in known and not (entry.is_file() and root in entry.resolve().parents):
            yield f"{name}: {entry} is no file, or a link that leads out of its directory"


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Say of each variable with our prefix, here or in `.env`, that names no setting what may be meant."""
    known = [SECRETS_DIR, *(place.variable for place in places())]
    dotenv = (name.upper() for name in DotEnvSettingsSource(Settings).env_vars)
    for name in sorted({*environ, *dotenv}):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        close = difflib.get_close_matches(name.upper(), known, n=1)
        yield f"{name}: is no setting" + (f"; did you mean {close[0]}?" if close else "")


class Place(NamedTuple):
    """Where a setting is.

    Attributes:
        variable: Its environment variable.
        path: The fields that lead to it.
        model: The model that has it: a group, or `Settings` itself.
    """

    variable: str
    path: tuple[str, ...]
    model: type[BaseModel]

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown as it is, whatever else it may be."""
        return SecretStr in _types(self.model.model_fields[self.path[-1]].annotation)


def _types(annotation: object) -> Iterator[object]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)


def places(model: type[BaseModel] = Settings, *path: str) -> Iterator[Place]:
    """Give the place of every setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Group):
            yield from places(field.annotation, *path, name)
        else:
            yield Place(PREFIX + DELIMITER.join((*path, name)).upper(), (*path, name), model)


def sources() -> Mapping[str, PydanticBaseSettingsSource]:
    """Give the sources by name, in the order in which they win, for a look at what each has.

    Raises:
        SettingsError: One cannot be read.
    """
    directory = os.environ.get(SECRETS_DIR)
    with _readable_sources():
        environment = EnvSettingsSource(Settings)
        found: dict[str, PydanticBaseSettingsSource] = {
            "environment": environment,
            ".env": DotEnvSettingsSource(Settings),
        }
        return found | {directory: _secret_files(environment, directory)} if directory else found


def _secret_files(of: PydanticBaseSettingsSource, directory: str) -> PydanticBaseSettingsSource:
    return NestedSecretsSettingsSource(
        of, secrets_dir=directory, env_prefix=PREFIX, secrets_nested_delimiter=DELIMITER
    )


def _problems(error: ErrorDetails) -> Iterator[tuple[str, str]]:
    """Yield the variables that an error is about, and what is wrong with each."""
    context = error.get("ctx", {})
    if error["type"] == "clash":
        yield from context["clashes"].items()
        return
    path = [part for part in error["loc"] if isinstance(part, str)][:2]
    variable = PREFIX + DELIMITER.join(path).upper()
    if error["type"] == "missing":
        yield from ((name, "is required and not set") for name in _required(path, variable))
        return
    words = _WORDS.get(error["type"])
    problem = words.format(**context, variable=variable) if words else error["msg"]
    places = [part + 1 for part in error["loc"] if isinstance(part, int)]
    yield variable, "".join(f"item {place} " for place in places) + problem


def _required(path: list[str], variable: str) -> list[str]:
    """The variables behind a missing field; a group of which nothing is set is missing as a whole."""
    group = Settings.model_fields[path[0]].annotation
    if len(path) > 1 or not (isinstance(group, type) and issubclass(group, _Group)):
        return [variable]
    required = (name for name, field in group.model_fields.items() if field.is_required())
    return [f"{variable}{DELIMITER}{name.upper()}" for name in required]
