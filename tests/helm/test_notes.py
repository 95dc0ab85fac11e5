"""What Helm says after an installation helps with the next step."""

import re

import pytest

from tests.helm.conftest import Rehearse
from tests.helm.release import MATRIX, NAMESPACE, at, merged


def test_the_notes_name_what_was_installed(rehearse: Rehearse) -> None:
    release = rehearse()

    assert "from\nhttps://10.20.0.7:28080" in release.notes
    assert "claim call-records" in release.notes
    for command in re.findall(r"kubectl (.*)", release.notes):
        assert command.startswith(f"-n {NAMESPACE} ")
    for name in re.findall(r"deployment/(\S+)", release.notes):
        assert name == release.deployment["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (MATRIX["trial"], "storage.emptyDir"),
        (MATRIX["trial"], "broker.url, accounts.keys"),
        (MATRIX["trial"], "simulator.enabled"),
        (at("config.ccfs.dangerAcceptAnyCertificate", value=True), "config.ccfs.dangerAcceptAnyCertificate"),
        (at("config.ccfs.baseUrl", "http://10.0.0.7:28080"), "config.ccfs.baseUrl"),
        (merged(MATRIX["broker-login"], at("broker.login.tls", value=False)), "broker.login.tls"),
        (at("networkPolicy.enabled", value=False), "networkPolicy.enabled"),
        ({}, "monitoring"),
    ],
)
def test_the_notes_warn_of_what_is_not_for_earnest(
    rehearse: Rehearse, values: dict[str, object], warning: str
) -> None:
    assert f"\n  - {warning}:" in rehearse(values).notes


def test_the_notes_warn_of_nothing_when_all_is_well(rehearse: Rehearse) -> None:
    assert "Worth knowing" not in rehearse(at("monitoring.podMonitor.enabled", value=True)).notes


def test_the_notes_speak_of_keda_when_it_decides(rehearse: Rehearse) -> None:
    assert "KEDA runs 0 to 30 pods" in rehearse(MATRIX["keda"]).notes
