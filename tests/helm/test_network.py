"""The NetworkPolicy lets workers reach what the settings say, and be scraped."""

from typing import Any

import pytest

from tests.helm.conftest import Rehearse
from tests.helm.release import MATRIX, Release, at


def egress(release: Release) -> dict[frozenset[int], Any]:
    """The peers of each rule by its ports; None is anywhere."""
    rules = release.one("NetworkPolicy")["spec"]["egress"]
    return {frozenset(port["port"] for port in rule["ports"]): rule.get("to") for rule in rules}


def test_dns_broker_and_ccfs_can_be_reached_and_nothing_else(rehearse: Rehearse) -> None:
    assert egress(rehearse()) == {
        frozenset({53}): None,
        frozenset({5671, 5672}): None,
        frozenset({28080}): [{"ipBlock": {"cidr": "10.20.0.7/32"}}],
    }


@pytest.mark.parametrize(
    ("url", "port", "peers"),
    [
        ("https://10.1.2.3", 443, [{"ipBlock": {"cidr": "10.1.2.3/32"}}]),
        ("http://10.1.2.3/", 80, [{"ipBlock": {"cidr": "10.1.2.3/32"}}]),
        ("https://[2001:db8::7]:28443", 28443, [{"ipBlock": {"cidr": "2001:db8::7/128"}}]),
        ("https://ccfs.example.com:8443", 8443, None),
        ("https://[2001:db8::7]", 443, [{"ipBlock": {"cidr": "2001:db8::7/128"}}]),
    ],
)
def test_address_and_port_of_ccfs_come_from_its_url(
    rehearse: Rehearse, url: str, port: int, peers: list[dict[str, object]] | None
) -> None:
    assert egress(rehearse(at("config.ccfs.baseUrl", url)))[frozenset({port})] == peers


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("amqps://u:p@mq", 5671),
        ("amqp://u:p@mq/vhost", 5672),
        ("amqps://u:p@mq:30671/vhost", 30671),
        ("amqp://u:p@h1:5673,h2:5673/vhost", 5673),
    ],
)
def test_the_brokers_port_comes_from_a_url_the_chart_knows(rehearse: Rehearse, url: str, port: int) -> None:
    assert frozenset({port}) in egress(rehearse(MATRIX["trial"], at("broker.url", url)))


@pytest.mark.parametrize(
    ("values", "change", "ports"),
    [
        ("five", {"managementUrlKey": "management"}, {5671, 5672, 15671, 15672}),
        ("trial", {"url": "amqp://u:p@mq", "managementUrl": "http://u:p@mq:15672/"}, {5672, 15672}),
        ("trial", {"url": "amqp://u:p@mq", "managementUrl": "https://u:p@mq/"}, {5672, 443}),
        (
            "trial",
            {"url": "amqp://u:p@mq", "managementUrl": "http://u:p@a:15672,b:25672/"},
            {5672, 15672, 25672},
        ),
    ],
)
def test_the_management_api_can_be_reached_where_it_is_given(
    rehearse: Rehearse, values: str, change: dict[str, str], ports: set[int]
) -> None:
    assert frozenset(ports) in egress(rehearse(MATRIX[values], {"broker": change}))


def test_peers_and_ports_may_be_named(rehearse: Rehearse) -> None:
    (policy,) = rehearse(MATRIX["everything"]).all("NetworkPolicy")

    _, broker, ccfs, more = policy["spec"]["egress"]
    assert (broker["to"], [port["port"] for port in broker["ports"]]) == (
        [{"podSelector": {"matchLabels": {"app": "rabbitmq"}}}],
        [5671],
    )
    assert [port["port"] for port in ccfs["ports"]] == [28080, 28443]
    assert more == {"to": [{"namespaceSelector": {}}]}


def test_only_the_port_of_probes_and_metrics_can_be_called(rehearse: Rehearse) -> None:
    policy = rehearse().one("NetworkPolicy")["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {"ports": [{"port": "http", "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]}
    ]


@pytest.mark.parametrize("nobody", [[], None])
def test_an_empty_list_of_those_who_scrape_lets_nobody_in(rehearse: Rehearse, nobody: object) -> None:
    policy = rehearse(at("networkPolicy.metrics.from", nobody)).one("NetworkPolicy")["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy


def test_more_callers_may_be_named_though_nobody_scrapes(rehearse: Rehearse) -> None:
    (policy,) = rehearse(MATRIX["everything"]).all("NetworkPolicy")

    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_a_name_that_the_pods_hosts_file_has_is_its_address(rehearse: Rehearse) -> None:
    ways = egress(rehearse(MATRIX["air-gapped"]))

    assert ways[frozenset({28080})] == [{"ipBlock": {"cidr": "10.20.0.7/32"}}]


@pytest.mark.parametrize(
    ("proxy", "port", "peers"),
    [
        ("http://10.9.0.1:3128", 3128, [{"ipBlock": {"cidr": "10.9.0.1/32"}}]),
        ("http://proxy.example.com", 80, None),
    ],
)
def test_behind_a_proxy_only_the_proxy_can_be_reached(
    rehearse: Rehearse, proxy: str, port: int, peers: list[dict[str, object]] | None
) -> None:
    ways = egress(rehearse(at("config.ccfs.proxyUrl", proxy)))

    assert ways[frozenset({port})] == peers
    assert frozenset({28080}) not in ways


@pytest.mark.parametrize(
    ("endpoint", "port", "peers"),
    [
        ("http://10.9.0.2:4318", 4318, [{"ipBlock": {"cidr": "10.9.0.2/32"}}]),
        ("https://[2001:db8::9]:4318/v1/traces", 4318, [{"ipBlock": {"cidr": "2001:db8::9/128"}}]),
        ("http://collector.monitoring.svc:4318", 4318, None),
        ("https://collector.example.com", 443, None),
    ],
)
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_traces_may_go_where_they_are_sent(
    rehearse: Rehearse, name: str, endpoint: str, port: int, peers: list[dict[str, object]] | None
) -> None:
    ways = egress(rehearse(at("extraEnv", [{"name": name, "value": endpoint}])))

    assert ways[frozenset({port})] == peers
    assert len(ways) == 4


def test_the_receiver_of_traces_may_be_named(rehearse: Rehearse) -> None:
    """As it has to be where an operator puts the endpoint into the pod."""
    collector = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]

    ways = egress(rehearse(at("networkPolicy.traces", {"to": collector, "ports": [4318]})))

    assert ways[frozenset({4318})] == collector


def test_helm_test_may_reach_the_same(rehearse: Rehearse) -> None:
    release = rehearse()

    (components,) = release.one("NetworkPolicy")["spec"]["podSelector"]["matchExpressions"]
    (test,) = release.all("Pod")
    assert test["metadata"]["labels"][components["key"]] in components["values"]


def test_the_policy_can_be_left_out(rehearse: Rehearse) -> None:
    assert rehearse(at("networkPolicy.enabled", value=False)).all("NetworkPolicy") == []
