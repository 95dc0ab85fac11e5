"""`config`: what is in effect, from where, and no password."""

from pathlib import Path

import pytest

from devkit import ROOT
from tests.cli.conftest import json_lines
from tests.commands import CCFS_WORKER, command

REQUIRED = {
    "WORKER_CCFS__BASE_URL": "https://127.0.0.1:28080",
    "WORKER_CREDENTIALS__DIR": "/run/keys",
    "WORKER_STORAGE__ROOT": "/srv/bills",
}


def test_each_setting_tells_its_source(tmp_path: Path) -> None:
    """The environment wins over `.env`, and both over secret files."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, value in {
        "WORKER_AMQP__URL": "amqp://user:hunter2@broker/",
        "WORKER_CONCURRENCY": "1",
        "WORKER_JOB_TIMEOUT": "10",
    }.items():
        (secrets / name).write_text(value)
    (tmp_path / ".env").write_text("WORKER_CONCURRENCY=2\nWORKER_HTTP__PORT=8081\n")
    settings = REQUIRED | {
        "WORKER_SECRETS_DIR": str(secrets),
        "WORKER_HTTP__PORT": "8082",
        "WORKER_LOG__LEVEL": "",
    }

    shown = command(CCFS_WORKER, "config", "--output", "json", settings=settings, cwd=tmp_path)

    assert shown.returncode == 0
    effective = {line["variable"]: (line["value"], line["source"]) for line in json_lines(shown.stdout)}
    assert effective["WORKER_HTTP__PORT"] == ("8082", "environment")
    assert effective["WORKER_CONCURRENCY"] == ("2", ".env")
    assert effective["WORKER_JOB_TIMEOUT"] == ("10", str(secrets))
    assert effective["WORKER_LOG__LEVEL"] == ("INFO", "default")
    assert effective["WORKER_CCFS__CA_FILE"] == (None, "unset")
    assert effective["WORKER_AMQP__URL"] == ("amqp://user:***@broker/", str(secrets))
    assert "hunter2" not in shown.stdout


@pytest.mark.parametrize("url", ["amqp://user:hunter2@[", "hunter2", "http://user:hunter2@h"])
def test_no_password_shows_even_in_what_is_no_url(tmp_path: Path, url: str) -> None:
    shown = command(CCFS_WORKER, "config", settings=REQUIRED | {"WORKER_AMQP__URL": url}, cwd=tmp_path)

    assert shown.returncode == 2
    assert "WORKER_AMQP__URL: must be " in shown.stderr
    assert "hunter2" not in shown.stdout + shown.stderr


def test_wrong_settings_are_shown_and_told(tmp_path: Path) -> None:
    shown = command(CCFS_WORKER, "config", settings={"WORKER_CONCURRENCY": "many"}, cwd=tmp_path)

    assert shown.returncode == 2
    assert len(shown.stderr.splitlines()) == 4
    (row,) = (line.split() for line in shown.stdout.splitlines() if line.startswith("WORKER_CONCURRENCY "))
    assert row == ["WORKER_CONCURRENCY", "many", "environment"]


def test_the_reference_does_not_depend_on_what_is_set(tmp_path: Path) -> None:
    made = command(CCFS_WORKER, "config", "--markdown", settings={"WORKER_CONCURRENCY": "3"}, cwd=tmp_path)

    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == (ROOT / "docs/settings.md").read_text()


@pytest.mark.parametrize("arguments", ["config", "run"])
def test_a_concurrency_beyond_the_descriptors_is_one_line(tmp_path: Path, arguments: str) -> None:
    settings = REQUIRED | {
        "WORKER_CONCURRENCY": "100",
        "WORKER_CREDENTIALS__DIR": str(tmp_path),
        "WORKER_STORAGE__ROOT": str(tmp_path),
    }
    limited = f'ulimit -n 300; exec "{CCFS_WORKER}" {arguments}'

    shown = command("sh", "-c", limited, settings=settings, cwd=tmp_path)

    assert shown.returncode == 2
    assert shown.stderr == (
        "WORKER_CONCURRENCY: 100 downloads need 592 file descriptors and this process may have 300: "
        "lower it to 27, or raise the limit (ulimit -n)\n"
    )
