"""Settings are checked together, and each wrong one is named with what is wrong."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands import CCFS_WORKER, PYTHON_M_WORKER, command
from worker.settings import SettingsError, load, places, sources, unknown_variables

REQUIRED = {
    "WORKER_CCFS__BASE_URL": "https://127.0.0.1:28080",
    "WORKER_CREDENTIALS__DIR": "/run/keys",
    "WORKER_STORAGE__ROOT": "/srv/bills",
}

WRONG = {
    "WORKER_AMQP__URL": ["nonsense", "http://u:hunter2@h/", "amqp://", "amqp://u:hunter2@h:99999999/"],
    "WORKER_AMQP__MANAGEMENT_URL": [
        "nonsense",
        "amqp://u:hunter2@h/",
        "http://h:15672/",
        "http://hunter2@h/",
    ],
    "WORKER_AMQP__HEARTBEAT": ["0", "301", "x", "1.5"],
    "WORKER_AMQP__CONNECT_TIMEOUT": ["0", "-1", "inf", "nan", "5m"],
    "WORKER_AMQP__PUBLISH_TIMEOUT": ["0", "x"],
    "WORKER_AMQP__CONSUMER_TIMEOUT": ["0", "x"],
    "WORKER_AMQP__DECLARE": ["perhaps"],
    "WORKER_AMQP__DELIVERY_LIMIT": ["0", "x"],
    "WORKER_AMQP__JOBS_QUEUE": ["a b", "x" * 201, "a\nb", "ä"],
    "WORKER_AMQP__RESULTS_EXCHANGE": ["a b"],
    "WORKER_AMQP__RESULTS_QUEUE": ["a b"],
    "WORKER_AMQP__RESULTS_QUEUE_ENABLED": ["perhaps"],
    "WORKER_AMQP__DEAD_QUEUE": ["a b"],
    "WORKER_AMQP__FAILED_QUEUE": ["a b"],
    "WORKER_AMQP__FAILED_KEEP": ["-1", "1.5", "many", "10000001"],
    "WORKER_ACCOUNTS__HOLD_AT_MOST": ["-1", "x", "inf", "2592001"],
    "WORKER_ACCOUNTS__PROBE_INTERVAL": ["0", "x", "nan", "3601"],
    "WORKER_CCFS__BASE_URL": [
        "127.0.0.1:28080",
        "ftp://h:1",
        "https://",
        "https://h:1/path",
        "https://h:1?a=b",
        "https://h:1#a",
        "https://user:hunter2@h:1",
        "https://h:99999",
    ],
    "WORKER_CCFS__HOST_HEADER": ["a b", "a\nb", "x" * 256],
    "WORKER_CCFS__PROXY_URL": [
        "proxy:3128",
        "https://proxy:3128",
        "http://user:secret@proxy:3128",
        "http://proxy/x",
    ],
    "WORKER_CCFS__TLS_SERVER_NAME": ["a b", "a\nb", "x" * 256],
    "WORKER_CCFS__KEEP_ALIVE": ["perhaps"],
    "WORKER_CCFS__DANGER_ACCEPT_ANY_CERTIFICATE": ["perhaps"],
    "WORKER_CCFS__CONNECT_TIMEOUT": ["0", "x"],
    "WORKER_CCFS__IDLE_TIMEOUT": ["0", "x"],
    "WORKER_CCFS__PAUSE_AFTER": ["0", "x"],
    "WORKER_CCFS__MAX_REQUESTS_PER_SECOND": ["0", "x", "inf"],
    "WORKER_STORAGE__MAX_FILE_BYTES": ["0", "10GiB"],
    "WORKER_STORAGE__MIN_FREE_BYTES": ["-1", "x"],
    "WORKER_STORAGE__STALE_AFTER": ["0", "x"],
    "WORKER_STORAGE__CHECK_INTERVAL": ["0", "x"],
    "WORKER_STORAGE__HANG_AFTER": ["0", "x"],
    "WORKER_STORAGE__REQUIRE_MOUNT": ["maybe"],
    "WORKER_STORAGE__RESTART_ON_STALE_MOUNT": ["maybe"],
    "WORKER_STORAGE__FILE_MODE": ["416", "0888", "rw-r-----"],
    "WORKER_STORAGE__DIR_MODE": ["0640", "x"],
    "WORKER_RETRY__DELAYS": [
        "10,60",
        "10",
        "{}",
        '{"1": 1}',
        "[10",
        "[NaN]",
        '["x", -1]',
        "[0]",
        "[100000]",
        str([1] * 33),
    ],
    "WORKER_RETRY__NOT_FOUND_ATTEMPTS": ["0", "x"],
    "WORKER_HTTP__ALLOWED_HOSTS": ["a.svc", "{}", '["a b"]', '["a/b"]', "[1]", '[""]'],
    "WORKER_HTTP__PORT": ["-1", "65536", "http"],
    "WORKER_LOG__LEVEL": ["loud"],
    "WORKER_LOG__FORMAT": ["xml"],
    "WORKER_CONCURRENCY": ["0", "2001", "many", "1.5"],
    "WORKER_CONCURRENCY_PER_APP": ["0", "x"],
    "WORKER_JOB_TIMEOUT": ["0", "-5", "inf", "nan", "5m"],
    "WORKER_SHUTDOWN_GRACE": ["-1", "x"],
}
FREE = {
    "WORKER_AMQP__USERNAME",
    "WORKER_AMQP__PASSWORD",
    "WORKER_AMQP__CA_FILE",
    "WORKER_AMQP__CERT_FILE",
    "WORKER_AMQP__KEY_FILE",
    "WORKER_CCFS__CA_FILE",
    "WORKER_CREDENTIALS__DIR",
    "WORKER_STORAGE__ROOT",
    "WORKER_HTTP__HOST",
}
"""Any text could be right here: whether it is shows when the worker looks there."""

VARIABLES = {place.variable for place in places()}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a worker with only what is required, in an empty directory."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def refusal() -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load()
    return caught.value.lines


@pytest.mark.usefixtures("environ")
def test_what_is_required_is_enough() -> None:
    loaded = load()

    assert loaded.amqp.url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"
    assert (loaded.amqp.heartbeat, loaded.http.port) == (15, 8080)
    assert (loaded.storage.stale_after, loaded.retry.not_found_attempts) == (86_400, 3)
    assert loaded.ccfs.danger_accept_any_certificate is False


def test_every_missing_setting_is_a_line(environ: pytest.MonkeyPatch) -> None:
    for name in REQUIRED:
        environ.delenv(name)

    assert refusal() == tuple(f"{name}: is required and not set" for name in REQUIRED)


def test_an_empty_variable_counts_as_unset(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("WORKER_CCFS__BASE_URL", "")
    environ.setenv("WORKER_CONCURRENCY", "")

    assert refusal() == ("WORKER_CCFS__BASE_URL: is required and not set",)


def test_there_is_a_wrong_value_here_for_every_setting() -> None:
    """So that a setting that is added is held to its rule too."""
    assert WRONG.keys() | FREE == VARIABLES


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_one_line_that_names_its_variable(
    variable: str, value: str, environ: pytest.MonkeyPatch
) -> None:
    environ.setenv(variable, value)

    (line,) = refusal()

    assert line.startswith(f"{variable}: ")
    assert line.isprintable()
    assert "hunter2" not in line
    assert not {"input", "dictionary", "tuple"} & set(line.split()), "it speaks of Python, not of settings"


def test_all_wrong_settings_are_named_and_the_exit_code_is_2() -> None:
    run = command(CCFS_WORKER, "run", settings=REQUIRED | {name: values[0] for name, values in WRONG.items()})

    assert run.returncode == 2
    assert run.stdout == ""
    assert sorted(line.partition(": ")[0] for line in run.stderr.splitlines()) == sorted(WRONG)


def test_python_m_worker_refuses_as_the_command_does() -> None:
    by_module, by_command = command(*PYTHON_M_WORKER), command(CCFS_WORKER, "run")

    assert by_module.returncode == by_command.returncode == 2
    assert by_module.stderr.splitlines() == [f"{name}: is required and not set" for name in REQUIRED]
    assert by_command.stderr == by_module.stderr


def test_nothing_is_touched_before_the_settings_are_right(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.setblocking(False)
        run = command(
            CCFS_WORKER,
            "run",
            settings={
                "WORKER_CCFS__BASE_URL": f"http://127.0.0.1:{broker.getsockname()[1]}",
                "WORKER_AMQP__URL": f"amqp://127.0.0.1:{broker.getsockname()[1]}",
                "WORKER_CREDENTIALS__DIR": str(tmp_path),
                "WORKER_STORAGE__ROOT": str(tmp_path),
                "WORKER_CONCURRENCY": "0",
            },
        )

        assert run.stderr == "WORKER_CONCURRENCY: must be at least 1\n"
        with pytest.raises(BlockingIOError):
            broker.accept()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("together", "variable", "says"),
    [
        (
            {"WORKER_JOB_TIMEOUT": "1740"},
            "WORKER_JOB_TIMEOUT",
            "60 s that a job may wait for its place must be below WORKER_AMQP__CONSUMER_TIMEOUT (1800)",
        ),
        (
            {"WORKER_AMQP__CONSUMER_TIMEOUT": "1000"},
            "WORKER_JOB_TIMEOUT",
            "below WORKER_AMQP__CONSUMER_TIMEOUT (1000)",
        ),
        (
            {"WORKER_SHUTDOWN_GRACE": "1800"},
            "WORKER_SHUTDOWN_GRACE",
            "below WORKER_AMQP__CONSUMER_TIMEOUT (1800)",
        ),
        ({"WORKER_STORAGE__STALE_AFTER": "1500"}, "WORKER_STORAGE__STALE_AFTER", "above WORKER_JOB_TIMEOUT"),
        ({"WORKER_AMQP__USERNAME": "u"}, "WORKER_AMQP__PASSWORD", "beside WORKER_AMQP__USERNAME"),
        ({"WORKER_AMQP__KEY_FILE": "/k"}, "WORKER_AMQP__CERT_FILE", "beside WORKER_AMQP__KEY_FILE"),
    ],
)
def test_settings_that_clash_name_each_other(
    together: dict[str, str], variable: str, says: str, environ: pytest.MonkeyPatch
) -> None:
    for name, value in together.items():
        environ.setenv(name, value)

    (line,) = refusal()

    assert line.startswith(f"{variable}: ")
    assert says in line


def test_clashes_are_told_together(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("WORKER_JOB_TIMEOUT", "2000")
    environ.setenv("WORKER_SHUTDOWN_GRACE", "2000")

    assert [line.partition(":")[0] for line in refusal()] == ["WORKER_JOB_TIMEOUT", "WORKER_SHUTDOWN_GRACE"]


def test_a_group_is_not_set_as_a_whole(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("WORKER_AMQP", '{"url": "amqp://u:hunter2@h"}')

    assert refusal() == ("WORKER_AMQP: is a group of settings: set WORKER_AMQP__… instead",)


def test_environment_wins_over_env_file_over_secret_files(
    environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("WORKER_HTTP__HOST", "WORKER_LOG__FORMAT", "WORKER_AMQP__URL"):
        (secrets / name).write_text("amqp://from-secret:1/" if "URL" in name else "secret")
    (tmp_path / ".env").write_text("WORKER_HTTP__HOST=file\nWORKER_LOG__FORMAT=console\n")
    environ.setenv("WORKER_SECRETS_DIR", str(secrets))
    environ.setenv("WORKER_HTTP__HOST", "environment")

    loaded = load()

    assert loaded.http.host == "environment"
    assert loaded.log.format == "console"
    assert loaded.amqp.url.get_secret_value() == "amqp://from-secret:1/"


def test_a_secret_file_may_end_in_a_line_break(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As those of editors and `kubectl create secret --from-file` do."""
    (tmp_path / "WORKER_AMQP__URL").write_text("amqp://u:p@h:1/\n")
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path))

    assert load().amqp.url.get_secret_value() == "amqp://u:p@h:1/"


def test_an_empty_password_file_is_told(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RabbitMQ would be asked to let in `guest` by its usual password."""
    (tmp_path / "WORKER_AMQP__PASSWORD").write_text("\n")
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path))

    assert refusal() == ("WORKER_AMQP__PASSWORD: must not be empty",)


@pytest.mark.usefixtures("environ")
def test_a_wrong_value_in_the_env_file_is_told_like_any_other(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WORKER_CONCURRENCY=many\n")

    assert refusal() == ("WORKER_CONCURRENCY: must be a whole number",)


def test_a_secrets_directory_that_is_not_there_is_told(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path / "missing"))

    (line,) = refusal()

    assert line.startswith("WORKER_SECRETS_DIR: ")
    assert "missing is no directory" in line


def swell(path: Path) -> None:
    with path.open("wb") as core:
        core.truncate(17 * 1024**2)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


ODD_SECRETS: dict[str, Callable[[Path], object]] = {
    "more than 16 MiB": swell,
    "directory": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": listen,
    "loop": lambda path: path.symlink_to(path.name),
    "broken link": lambda path: path.symlink_to("nothing"),
    "link to a file elsewhere": lambda path: path.symlink_to("/etc/passwd"),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "bytes that are no text": lambda path: path.write_bytes(b"amqp://u:hunter2\xff@h"),
}


@pytest.mark.parametrize("make", ODD_SECRETS.values(), ids=ODD_SECRETS)
def test_an_odd_secret_file_is_told_in_one_line(
    make: Callable[[Path], object], environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(tmp_path / "WORKER_AMQP__URL")
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path))

    for read in (load, sources):
        with pytest.raises(SettingsError) as told:
            read()

        (line,) = told.value.lines
        assert line.startswith(("WORKER_SECRETS_DIR: ", "WORKER_AMQP__URL: ", ".env, or "))
        assert "hunter2" not in line


@pytest.mark.parametrize("arguments", [["config"], ["check"], ["run"]], ids=lambda names: names[0])
def test_each_command_tells_of_odd_secrets_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    swell(tmp_path / "core")

    told = command(
        CCFS_WORKER, *arguments, settings=REQUIRED | {"WORKER_SECRETS_DIR": str(tmp_path)}, cwd=tmp_path
    )

    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert told.stderr.startswith(f"WORKER_SECRETS_DIR: {tmp_path} cannot be read: ")


def test_a_secrets_directory_with_too_many_files_is_told(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is read again for each session: what it holds by then must not end the worker."""
    for number in range(10_001):
        (tmp_path / str(number)).touch()
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path))

    (line,) = refusal()

    assert line.startswith(f"WORKER_SECRETS_DIR: {tmp_path} cannot be read: ")


def test_the_links_of_a_mounted_secret_are_followed(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01/WORKER_AMQP__URL").write_text("amqp://u:p@h:1/")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "WORKER_AMQP__URL").symlink_to("..data/WORKER_AMQP__URL")
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path))

    assert load().amqp.url.get_secret_value() == "amqp://u:p@h:1/"


@pytest.mark.parametrize("place", [".env", "secrets/WORKER_AMQP__URL"])
def test_a_file_that_is_not_utf8_is_told_without_its_bytes(
    place: str, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / place).write_bytes(b"WORKER_AMQP__URL=amqp://u:hunter2\xff@h")
    environ.setenv("WORKER_SECRETS_DIR", str(tmp_path / "secrets"))

    (line,) = refusal()

    assert "not UTF-8" in line
    assert "hunter2" not in line


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("WORKER_CONCURENCY", "WORKER_CONCURENCY: is no setting; did you mean WORKER_CONCURRENCY?"),
        ("WORKER_AMQP_URL", "WORKER_AMQP_URL: is no setting; did you mean WORKER_AMQP__URL?"),
        ("WORKER_ZZZZZZZZZZZZZ", "WORKER_ZZZZZZZZZZZZZ: is no setting"),
    ],
)
def test_a_variable_that_is_no_setting_gets_a_hint(name: str, hint: str) -> None:
    assert list(unknown_variables({name: "x", "PATH": "/bin"})) == [hint]


@pytest.mark.usefixtures("environ")
def test_the_env_file_gets_hints_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WORKER_CONCURENCY=5\n")

    assert list(unknown_variables({})) == [
        "WORKER_CONCURENCY: is no setting; did you mean WORKER_CONCURRENCY?"
    ]


def test_every_setting_is_known() -> None:
    names = ["WORKER_SECRETS_DIR", *VARIABLES, "worker_concurrency"]

    assert list(unknown_variables(dict.fromkeys(names, ""))) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # Marked, since any word may stand elsewhere in what is shown: "exchange" does.
    password=st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=30).map("pw-{}".format)
)
def test_a_password_is_shown_nowhere(password: str, environ: pytest.MonkeyPatch) -> None:
    environ.setenv("WORKER_AMQP__URL", f"amqp://user:{password}@h/")
    loaded = load()
    environ.setenv("WORKER_AMQP__URL", f"amqp://user:{password}@")
    lines = refusal()

    shown = [repr(loaded), str(loaded), repr(loaded.amqp), loaded.model_dump_json(), *lines]
    assert not [text for text in shown if password in text]
