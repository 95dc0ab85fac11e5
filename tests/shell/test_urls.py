"""No rendering of a URL, right or wrong, shows the password in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from yarl import URL

from worker.cli import inventory
from worker.net.urls import masked, of_each_host, with_login
from worker.settings import Settings, SettingsError, load
from worker.wiring import management_api

AMQP, CCFS, MANAGEMENT = "WORKER_AMQP__URL", "WORKER_CCFS__BASE_URL", "WORKER_AMQP__MANAGEMENT_URL"
RIGHT = {AMQP: "amqp://guest:guest@h/", CCFS: "https://127.0.0.1:28080", MANAGEMENT: "http://u:p@h:15672/"}

HALVES = st.text("QXZJqxzj", min_size=5, max_size=8)
"""Of a password: in letters that no message of ours has five of in a row."""
BETWEEN = st.text("/?#@:%\\[]&=+ ,;!\"'<>|^`{}~.-_$*()\u00e4\u4e2d", max_size=4)
HOSTS = st.sampled_from(
    ["rabbit", "rabbit:5672", "[::1]:5672", "h1:5672,h2:5672,h3", "h1,h2", "h:99999999", "[", "", ":", "@"]
)
ENDS = st.sampled_from(["", "/", "/vhost", "/%2F", "/a/b", "/?heartbeat=5", "#x", "/v@w", "?a@b"])
SCHEMES = st.sampled_from(
    ["amqp://", "amqps://", "AMQP://", "https://", "http://", "amqp:", "amqp:/", "://", "//", "", " amqp://"]
)
USERS = st.sampled_from(["user:", ":", "us@er:", "us/er:", "user::"])


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKER_CREDENTIALS__DIR", "/run/keys")
    monkeypatch.setenv("WORKER_STORAGE__ROOT", "/srv/bills")
    for variable, url in RIGHT.items():
        monkeypatch.setenv(variable, url)
    return monkeypatch


def renderings() -> Iterator[str]:
    """All that `config` and `check` show of the settings, and what a log or a readiness may."""
    for entry in inventory.effective():
        yield f"{entry.value} {entry.problem} {entry!r}"
    try:
        loaded: Settings = load()
    except SettingsError as exc:
        yield f"{exc} {exc!r} {exc.lines}"
    else:
        yield f"{loaded} {loaded!r} {loaded.model_dump()} {loaded.ccfs.base_url}"
        for broker in map(URL, of_each_host(loaded.amqp.url.get_secret_value())):
            # What errors about the broker name: in the log, `check` and `/readyz`.
            yield f"{broker.host}:{broker.port}{broker.path} {broker.user!r}"
        yield repr(management_api(loaded.amqp))
        management = loaded.amqp.management_url
        for server in map(URL, of_each_host(management.get_secret_value() if management else "")):
            yield f"{server.host}:{server.port} {server.user!r}"


@st.composite
def urls(draw: st.DrawFn) -> tuple[str, str, str]:
    """A URL, right or wrong, and two parts of the password in it."""
    first, between, second = draw(HALVES), draw(BETWEEN), draw(HALVES)
    login = f"{draw(USERS)}{first}{between}{second}@"
    return f"{draw(SCHEMES)}{login}{draw(HOSTS)}{draw(ENDS)}", first, second


@given(urls())
def test_what_is_masked_shows_no_part_of_the_password(drawn: tuple[str, str, str]) -> None:
    url, first, second = drawn

    shown = masked(url)

    assert first not in shown
    assert second not in shown


@pytest.mark.parametrize("variable", [AMQP, CCFS, MANAGEMENT])
@given(drawn=urls())
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_rendering_shows_a_part_of_the_password(
    environ: pytest.MonkeyPatch, variable: str, drawn: tuple[str, str, str]
) -> None:
    url, first, second = drawn
    environ.setenv(variable, url)

    shown = "\n".join(renderings())

    environ.setenv(variable, RIGHT[variable])
    assert first not in shown
    assert second not in shown


@pytest.mark.parametrize("character", "/?#@")
def test_a_login_that_is_not_encoded_is_refused_in_one_line(
    environ: pytest.MonkeyPatch, character: str
) -> None:
    environ.setenv(AMQP, f"amqp://user:7{character}S3cret@rabbit:5672/")

    with pytest.raises(SettingsError) as caught:
        load()

    (line,) = caught.value.lines
    assert line.startswith(f"{AMQP}: has a / ? # or @ in its user or password that is not percent-encoded")
    assert "S3cret" not in line


def test_a_login_that_is_encoded_is_taken_and_masked(environ: pytest.MonkeyPatch) -> None:
    url = "amqp://user:7%2FS3%3F%23%40cret@rabbit:5672/%2F"
    environ.setenv(AMQP, url)

    assert load().amqp.url.get_secret_value() == url
    assert masked(url) == "amqp://user:***@rabbit:5672/%2F"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("amqp://user:p%2Cw@h1:5671,h2,[::1]:5673/v", [("h1", 5671), ("h2", None), ("::1", 5673)]),
        ("amqps://h1,h2", [("h1", None), ("h2", None)]),
        ("amqp://user:p,w@h1/", [("h1", None)]),
    ],
)
def test_a_url_lists_the_brokers_hosts(
    environ: pytest.MonkeyPatch, url: str, hosts: list[tuple[str, int | None]]
) -> None:
    environ.setenv(AMQP, url)

    found = [URL(one) for one in of_each_host(load().amqp.url.get_secret_value())]

    assert [(one.host, one.explicit_port) for one in found] == hosts
    assert len({(one.user, one.password, one.path) for one in found}) == 1


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        ("h1,", "must be a URL"),
        (",h1", "must be a URL"),
        ("h1,,h2", "must be a URL"),
        ("h1:99999999,h2", "must be a URL"),
        ("h1/,amqp://user:S3cret@h2", "must be one URL, which may list hosts"),
    ],
)
def test_a_wrong_list_of_hosts_is_refused_in_one_line(
    environ: pytest.MonkeyPatch, hosts: str, complaint: str
) -> None:
    environ.setenv(AMQP, f"amqp://user:S3cret@{hosts}/")

    with pytest.raises(SettingsError) as caught:
        load()

    (line,) = caught.value.lines
    assert line.startswith(f"{AMQP}: {complaint}")
    assert "S3cret" not in line


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("amqp://user:S3cret@h:5672/", "must be a URL: http:// or https://host:port"),
        ("http://h:15672/", "must be a URL with a login"),
        ("http://S3cret@h:15672/", "must be a URL with a login"),
        ("http://user:S3cret@h1:15672,/", "must be a URL"),
        ("http://user:S3/cret@h:15672/", "has a / ? # or @ in its user or password"),
        ("http://user:S3cret@h:15672/?a=b", "must be a URL with a login"),
    ],
)
def test_a_wrong_management_url_is_refused_in_one_line(
    environ: pytest.MonkeyPatch, url: str, complaint: str
) -> None:
    environ.setenv(MANAGEMENT, url)

    with pytest.raises(SettingsError) as caught:
        load()

    (line,) = caught.value.lines
    assert line.startswith(f"{MANAGEMENT}: {complaint}")
    assert "cret" not in line


@pytest.mark.parametrize(
    ("url", "user", "password", "whole"),
    [
        ("amqp://h1,h2:5673/v", "u/?", "p@:#%", "amqp://u%2F%3F:p%40%3A%23%25@h1,h2:5673/v"),
        ("amqps://guest:guest@h?heartbeat=5", "u", "p", "amqps://u:p@h?heartbeat=5"),
        ("amqp://u%40:old@h/", None, "p", "amqp://u%40:p@h/"),
        ("amqp://h/", None, "p", "amqp://:p@h/"),
        ("amqp://u:p@h/", None, None, "amqp://u:p@h/"),
        ("amqp://h/", None, None, "amqp://h/"),
    ],
)
def test_a_login_apart_from_the_url_takes_the_place_of_its_own(
    url: str, user: str | None, password: str | None, whole: str
) -> None:
    assert with_login(url, user, password) == whole


@given(user=st.text(min_size=1), password=st.text(min_size=1))
def test_a_login_apart_from_the_url_may_have_any_character(user: str, password: str) -> None:
    whole = URL(with_login("amqp://guest:guest@h:5672/v", user, password))

    assert (whole.user, whole.password, whole.host, whole.path) == (user, password, "h", "/v")


@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.parametrize("password", ["hunter2", "http://hunter2", "amqp://hunter2@h", "hunter2/?#@"])
def test_a_password_apart_from_the_url_shows_nowhere(
    environ: pytest.MonkeyPatch, tmp_path: Path, place: str, password: str
) -> None:
    environ.setenv("WORKER_AMQP__USERNAME", "user")
    if place == "environment":
        environ.setenv("WORKER_AMQP__PASSWORD", password)
    else:
        environ.setenv("WORKER_SECRETS_DIR", str(tmp_path))
        (tmp_path / "WORKER_AMQP__PASSWORD").write_text(password)

    shown = "\n".join([*renderings(), masked(load().amqp.address)])

    assert load().amqp.address.startswith("amqp://user:")
    assert "hunter2" not in shown


def test_a_base_url_with_a_login_is_refused_in_one_line(environ: pytest.MonkeyPatch) -> None:
    environ.setenv(CCFS, "https://user:hunter2@127.0.0.1:28080")

    with pytest.raises(SettingsError) as caught:
        load()

    (line,) = caught.value.lines
    assert line.startswith(f"{CCFS}: must hold no user and password")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://rabbit:5672/", "amqp://rabbit:5672/"),
        ("amqp://user@rabbit/", "amqp://user@rabbit/"),
        ("amqps://user:pw@h1:5671,h2,h3/v", "amqps://user:***@h1:5671,h2,h3/v"),
        ("amqp://user:p:w@h?heartbeat=5", "amqp://user:***@h?heartbeat=5"),
        ("amqp://user:p/w@h/", "***"),
        ("user:pw@h", "***"),
        ("amqp://[", "***"),
    ],
)
def test_only_what_is_certainly_no_password_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown
