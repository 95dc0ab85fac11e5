"""Chart and worker agree on the settings, in both directions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devkit.generate.chart import config, values
from devkit.generate.chart.config import WIRED
from devkit.generate.chart.values import Value
from tests.helm.conftest import Rehearse
from tests.helm.release import CHART, MATRIX, Release, at, by_name
from worker import settings
from worker.settings import Settings

VARIABLES = frozenset(place.variable for place in settings.places())
DOCUMENTED = {value.path: value for value in values.read((CHART / "values.yaml").read_text()).values()}
FREE = {
    setting.variable: DOCUMENTED["config", *setting.path]
    for setting in config.settings()
    if setting.variable not in WIRED
}
WIRINGS: Mapping[str, Mapping[str, Any]] = {
    "WORKER_AMQP__CA_FILE": at("tls.broker.ca.existingSecret", "broker-ca"),
    "WORKER_AMQP__CERT_FILE": at("tls.broker.clientCertificate.existingSecret", "broker-client"),
    "WORKER_AMQP__KEY_FILE": at("tls.broker.clientCertificate.existingSecret", "broker-client"),
    "WORKER_CCFS__CA_FILE": at("tls.ccfs.ca.existingConfigMap", "ccfs-ca"),
    "WORKER_CREDENTIALS__DIR": at("accounts.existingSecret", "accounts"),
    "WORKER_STORAGE__ROOT": at("storage.mountPath", "/srv/records"),
}
"""Values that lead to the settings which are no values of their own."""

LOGIN = frozenset({"WORKER_AMQP__USERNAME", "WORKER_AMQP__PASSWORD"})

SHORT = {"config": {"jobTimeout": 1, "shutdownGrace": 1}}
"""Deadlines that fit together with any sample of another one."""


def sample(value: Value) -> Any:
    """Something that the value may be, and is not by default."""
    schema: Any = value.schema
    if "enum" in schema:
        return schema["enum"][1]
    return {
        "boolean": True,
        "integer": schema.get("minimum", 0) + 3,
        "number": 3.5,
        "array": ["a.svc", "b"] if schema.get("items", {}).get("type") == "string" else [0.5, 7],
        "string": _text(schema.get("pattern", "")),
    }[schema["type"][0]]


def _text(pattern: str) -> str:
    if pattern.startswith("^http:"):
        return "http://proxy.example.com:3128"
    if "http" in pattern:
        return "https://ccfs.example.com:28443"
    return "0750" if "[0-7]" in pattern else "other"


def load(release: Release, monkeypatch: pytest.MonkeyPatch, secrets: Path) -> Settings:
    """Reads the settings as the worker in the pod would, with the broker's URL as mounted from a Secret."""
    (secrets / "WORKER_AMQP__URL").write_text("amqp://user:password@broker/")
    for name, value in {**release.env, settings.SECRETS_DIR: str(secrets)}.items():
        monkeypatch.setenv(name, value)
    return settings.load()


@pytest.mark.parametrize("values", MATRIX)
def test_every_variable_of_the_chart_is_a_setting(rehearse: Rehearse, values: str) -> None:
    variables = {name for name in rehearse(MATRIX[values]).env if name.startswith(settings.PREFIX)}

    assert variables - VARIABLES == {settings.SECRETS_DIR}


def test_every_setting_has_a_place_in_the_chart() -> None:
    assert FREE.keys() | WIRED.keys() == VARIABLES
    assert all(any(path[: len(way)] == way for path in DOCUMENTED) for way in map(keys, WIRED.values()))


def keys(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


@pytest.mark.parametrize("variable", FREE)
def test_a_value_reaches_the_worker(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    value = FREE[variable]
    wanted = sample(value)
    release = rehearse(SHORT, at(".".join(value.path), wanted))

    loaded: Any = load(release, monkeypatch, tmp_path)

    for name in variable.removeprefix(settings.PREFIX).lower().split(settings.DELIMITER):
        loaded = getattr(loaded, name)
    assert (list(loaded) if isinstance(loaded, tuple) else loaded) == wanted


@pytest.mark.parametrize("variable", WIRINGS)
def test_a_file_or_directory_reaches_the_worker(rehearse: Rehearse, variable: str) -> None:
    release = rehearse(WIRINGS[variable])

    path = Path(release.env[variable])
    mounts = {Path(mount["mountPath"]) for mount in release.worker["volumeMounts"]}
    assert path in mounts or path.parent in mounts


def test_every_wired_setting_is_tried() -> None:
    secret = {"WORKER_AMQP__URL", "WORKER_AMQP__MANAGEMENT_URL"} | LOGIN
    assert WIRINGS.keys() | secret == WIRED.keys()


def test_the_url_of_the_broker_is_a_file_and_no_variable(rehearse: Rehearse) -> None:
    release = rehearse(at("broker.existingSecretKey", "connection_string"))

    (item,) = release.volumes["broker"]["secret"]["items"]
    assert item == {"key": "connection_string", "path": "WORKER_AMQP__URL"}
    assert item["path"] not in release.env
    mounts = {mount["name"]: mount["mountPath"] for mount in release.worker["volumeMounts"]}
    assert release.env[settings.SECRETS_DIR] == mounts["broker"]


def test_the_management_url_is_a_file_beside_it(rehearse: Rehearse) -> None:
    release = rehearse(at("broker.managementUrlKey", "management"))

    _, item = release.volumes["broker"]["secret"]["items"]
    assert item == {"key": "management", "path": "WORKER_AMQP__MANAGEMENT_URL"}
    assert item["path"] not in release.env


def test_the_management_url_may_be_beside_a_login(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["broker-login"], at("broker.managementUrlKey", "management"))

    *_, item = release.volumes["broker"]["secret"]["items"]
    assert item == {"key": "management", "path": "WORKER_AMQP__MANAGEMENT_URL"}


def test_a_trials_management_url_is_kept_in_its_secret(rehearse: Rehearse) -> None:
    without = rehearse(MATRIX["trial"])
    release = rehearse(MATRIX["trial"], at("broker.managementUrl", "http://u:p@rabbitmq:15672/"))

    _, item = release.volumes["broker"]["secret"]["items"]
    assert item["path"] == "WORKER_AMQP__MANAGEMENT_URL"
    assert release.one("Secret", "-broker")["data"].keys() == {"url", item["key"]}
    checksums = {one.pod["metadata"]["annotations"]["checksum/broker"] for one in (without, release)}
    assert len(checksums) == 2


def test_a_login_apart_from_the_url_is_files_and_no_variables(rehearse: Rehearse) -> None:
    """As RabbitMQ's cluster operator makes the Secret: so that a changed password reaches the running pod."""
    release = rehearse(MATRIX["broker-login"])

    volume = release.volumes["broker"]["secret"]
    assert volume["secretName"] == "rabbitmq-default-user"
    assert {item["path"]: item["key"] for item in volume["items"]} == {
        "WORKER_AMQP__USERNAME": "username",
        "WORKER_AMQP__PASSWORD": "password",
    }
    assert not LOGIN & {entry["name"] for entry in release.worker["env"]}


def test_the_host_may_come_from_the_secret_of_the_login(rehearse: Rehearse) -> None:
    release = rehearse(MATRIX["broker-login"])

    env = by_name(release.worker["env"])
    assert env["BROKER_HOST"]["valueFrom"]["secretKeyRef"] == {"name": "rabbitmq-default-user", "key": "host"}
    assert env["BROKER_PORT"]["valueFrom"]["secretKeyRef"] == {"name": "rabbitmq-default-user", "key": "port"}
    # Kubernetes fills in only what stands before.
    assert list(env).index("BROKER_HOST") < list(env).index("WORKER_AMQP__URL")
    assert release.env["WORKER_AMQP__URL"] == "amqps://$(BROKER_HOST):$(BROKER_PORT)/calls"


@pytest.mark.parametrize(
    ("login", "url", "ports"),
    [
        ({"host": "mq.calls.svc"}, "amqp://mq.calls.svc/", {5672}),
        (
            {"host": "h1,h2:5673", "tls": True, "virtualHost": "a b/c"},
            "amqps://h1,h2:5673/a%20b%2Fc",
            {5671, 5673},
        ),
        ({"host": "[2001:db8::7]:5674"}, "amqp://[2001:db8::7]:5674/", {5674}),
    ],
)
def test_the_host_beside_a_login_may_be_named(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, login: Any, url: str, ports: set[int]
) -> None:
    release = rehearse(
        at("broker", {"existingSecret": "", "login": {"existingSecret": "user-credentials", **login}})
    )

    assert release.env["WORKER_AMQP__URL"] == url
    assert not [entry for entry in release.worker["env"] if "valueFrom" in entry]
    (tmp_path / "WORKER_AMQP__PASSWORD").write_text("p")
    assert load(release, monkeypatch, tmp_path).amqp.address == url.replace("://", "://:p@")
    allowed = [rule["ports"] for rule in release.one("NetworkPolicy")["spec"]["egress"]]
    assert {port["port"] for port in allowed[1]} == ports


def test_large_numbers_arrive_digit_by_digit(rehearse: Rehearse) -> None:
    release = rehearse(at("config.storage.maxFileBytes", 1_099_511_627_776))

    assert release.env["WORKER_STORAGE__MAX_FILE_BYTES"] == "1099511627776"


def test_unset_values_leave_the_defaults_to_the_worker(rehearse: Rehearse) -> None:
    assert "WORKER_CONCURRENCY" not in rehearse().env
    assert "WORKER_SHUTDOWN_GRACE" not in rehearse(at("config.shutdownGrace", None)).env


def test_the_chart_derives_from_the_workers_own_defaults(rehearse: Rehearse) -> None:
    defaults = Settings.model_fields
    unset = rehearse(
        {"config": {"shutdownGrace": None, "concurrency": None, "jobTimeout": None, "http": {"port": None}}},
        MATRIX["keda"],
    )
    explicit = rehearse(
        {
            "config": {
                "shutdownGrace": defaults["shutdown_grace"].default,
                "concurrency": defaults["concurrency"].default,
                "jobTimeout": defaults["job_timeout"].default,
                "amqp": {
                    "publishTimeout": settings.AmqpGroup().publish_timeout,
                    "jobsQueue": settings.AmqpGroup().jobs_queue,
                },
                "http": {"port": settings.HttpGroup().port},
            }
        },
        MATRIX["keda"],
    )

    grace = "terminationGracePeriodSeconds"
    assert unset.pod["spec"][grace] == explicit.pod["spec"][grace]
    assert unset.worker["ports"] == explicit.worker["ports"]
    assert unset.one("ScaledObject")["spec"] == explicit.one("ScaledObject")["spec"]


def test_a_default_is_documented_as_it_is() -> None:
    described = {name: value.description for name, value in FREE.items()}

    assert 'Unset is `"0.0.0.0"`' in described["WORKER_HTTP__HOST"]
    assert "Unset is `[10, 60, 300, 900]`" in described["WORKER_RETRY__DELAYS"]
    assert "Unset is `1500`" in described["WORKER_JOB_TIMEOUT"]
