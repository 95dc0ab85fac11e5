"""What can be known of docker-compose.yaml without Docker: pinned, complete, in step with the worker."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from devkit import ROOT
from devkit.run import programs
from devkit.run.prometheus import JOB
from worker.cli import main
from worker.settings import Settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES = COMPOSE["services"]
WORKER = SERVICES["worker"]["environment"]
PROMETHEUS = ROOT / "compose/prometheus.yaml"
SETTINGS = set(re.findall(r"^\| `(WORKER_\w+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))


def mounts(service: str) -> dict[str, str]:
    """What a service has mounted, by its path in the container."""
    pairs = (volume.split(":") for volume in SERVICES[service].get("volumes", ()))
    return {target: source for source, target, *_ in pairs}


def test_every_image_is_pinned_or_built_here() -> None:
    foreign = {service["image"] for service in SERVICES.values() if "build" not in service}

    assert {image.split("/")[-1].split(":")[0] for image in foreign} == {"rabbitmq", "prometheus", "grafana"}
    assert [
        image
        for image in foreign
        if not re.search(r":v?\d+\.\d+\.\d+(-management)?(@sha256:\w{64})?$", image)
    ] == []


def test_every_variable_of_the_worker_is_a_setting() -> None:
    assert {name for name in WORKER if name not in SETTINGS} == set()


def test_the_workers_settings_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the paths of its containers below a folder of the test."""
    for name, value in WORKER.items():
        monkeypatch.setenv(name, f"{tmp_path}{value}" if value.startswith("/") else value)
    for folder in ("data", "simulator/keys"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "simulator/ca.pem").touch()

    assert Settings().ccfs.base_url


def test_what_the_worker_reads_and_writes_is_mounted() -> None:
    paths = [value for value in WORKER.values() if value.startswith("/")]

    assert paths
    assert [path for path in paths if f"/{path.split('/')[1]}" not in mounts("worker")] == []
    assert mounts("worker")["/simulator"] == mounts("simulator")["/simulator"]


def test_the_simulator_knows_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SERVICES["simulator"]["command"], "--list-faults"])

    assert (ended.value.code, capsys.readouterr().err) == (0, "")


def test_a_worker_has_its_whole_grace_to_drain() -> None:
    given = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))

    assert given >= Settings.model_fields["shutdown_grace"].default + 5


def test_every_file_that_is_mounted_is_there() -> None:
    sources = [source for name in SERVICES for source in mounts(name).values()]

    assert {source for source in sources if not source.startswith("./")} == COMPOSE["volumes"].keys()
    assert [source for source in sources if source.startswith("./") and not (ROOT / source).is_file()] == []


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_prometheus_takes_its_configuration_and_our_rules(tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS, tmp_path)
    shutil.copy(ROOT / "helm/files/alerts.yaml", tmp_path)
    promtool = programs.find("promtool")

    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / PROMETHEUS.name)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout
    (scraped,) = yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]
    assert scraped["job_name"] == JOB


def test_grafana_finds_our_dashboard() -> None:
    (provider,) = yaml.safe_load((ROOT / "compose/grafana/dashboards.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((ROOT / "compose/grafana/datasource.yaml").read_text())["datasources"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert Path(home).parent == Path(provider["options"]["path"])
    assert mounts("grafana")[home] == "./helm/files/dashboard.json"
    assert source["url"].split("//")[1].split(":")[0] in SERVICES
