"""The values in the documents are values that the chart takes; manifests beside them name what it makes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import helm_python as helm
import pytest
import yaml
from pydantic import ValidationError

from tests.helm.conftest import NEWEST, Rehearse
from tests.helm.release import CHART, FIVE, NAME, NAMESPACE, Document, Release
from tests.helm.test_rendering import assert_valid

PAGES = [*sorted((CHART.parent / "docs").glob("kubernetes*.md")), CHART / "README.md"]
BLOCKS: list[tuple[str, list[Document]]] = [
    (f"{page.name}-{number}", [*yaml.safe_load_all(block)])
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]
EXAMPLES = {name: documents[0] for name, documents in BLOCKS if "apiVersion" not in documents[0]}
MANIFESTS = [document for name, documents in BLOCKS if name not in EXAMPLES for document in documents]
# What an example about one thing leaves to the five values has to make room for what it says itself.
ROOM = {
    "storage": {"existingClaim": ""},
    "broker": {"existingSecret": ""},
    "accounts": {"existingSecret": ""},
}


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_can_be_installed(rehearse: Rehearse, values: Document) -> None:
    room = {key: value for key, value in ROOM.items() if key in values}

    for document in rehearse(room, values).documents:
        assert_valid(document, NEWEST)


@pytest.mark.parametrize("number", range(len(MANIFESTS)), ids=lambda number: MANIFESTS[number]["kind"])
def test_a_manifest_has_only_fields_that_exist(number: int) -> None:
    assert_valid(MANIFESTS[number], NEWEST)


def test_a_misspelt_field_of_any_manifest_is_found() -> None:
    """So that the test above can fail."""
    for document in MANIFESTS:
        with pytest.raises((ValidationError, AssertionError)):
            assert_valid({**document, "spec": {**document["spec"], "intervall": "1h"}}, NEWEST)


def test_no_key_of_an_example_stands_twice() -> None:
    """PyYAML takes the last one without a word, and so would a user's values."""
    for page in [*PAGES, CHART.parent / "docs/rabbitmq-topology.yaml"]:
        text = page.read_text()
        blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for block in blocks if page.suffix == ".md" else [text]:
            for root in yaml.compose_all(block, Loader=yaml.SafeLoader):
                assert doubled(root) == [], page


def doubled(node: yaml.Node) -> list[str]:
    """The keys that stand twice in one map of a node."""
    if isinstance(node, yaml.SequenceNode):
        return [key for inner in node.value for key in doubled(inner)]
    if not isinstance(node, yaml.MappingNode):
        return []
    keys = [key.value for key, _ in node.value]
    return [key for key in keys if keys.count(key) > 1] + [
        key for _, inner in node.value for key in doubled(inner)
    ]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 10


def one(kind: str) -> Document:
    (found,) = (document for document in MANIFESTS if document["kind"] == kind)
    return found


def argo(document: Document) -> Document:
    source: Document = document["spec"]["source"]
    assert source["path"] == CHART.name
    assert (source["helm"]["releaseName"], document["spec"]["destination"]["namespace"]) == (NAME, NAMESPACE)
    values: Document = source["helm"]["valuesObject"]
    return values


def flux(document: Document) -> Document:
    chart = document["spec"]["chart"]["spec"]
    assert chart["chart"] == CHART.name
    assert chart["sourceRef"]["name"] == one(chart["sourceRef"]["kind"])["metadata"]["name"]
    assert (document["metadata"]["name"], document["metadata"]["namespace"]) == (NAME, NAMESPACE)
    values: Document = document["spec"]["values"]
    return values


@pytest.mark.parametrize(("kind", "values_of"), [("Application", argo), ("HelmRelease", flux)])
def test_a_release_by_another_tool_is_one_of_this_chart(
    chart: helm.Chart, kind: str, values_of: Callable[[Document], Document]
) -> None:
    files = chart.render(values_of(one(kind)), name=NAME, namespace=NAMESPACE, revision=1)

    assert any(file.endswith("/deployment.yaml") for file in files)


def test_external_secrets_are_those_that_the_pods_mount(rehearse: Rehearse) -> None:
    made = {document["metadata"]["name"] for document in MANIFESTS if document["kind"] == "ExternalSecret"}

    volumes = rehearse(ROOM, {"storage": FIVE["storage"]}, of_section("External Secrets")).volumes.values()

    assert {volume["secret"]["secretName"] for volume in volumes if "secret" in volume} == made


def of_section(title: str) -> dict[str, Any]:
    """The values of the first example under a heading of docs/kubernetes.md."""
    page = (CHART.parent / "docs/kubernetes.md").read_text()
    block = re.search(rf"^### {title}\n.*?^```yaml\n(?!apiVersion)(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block
    values: dict[str, Any] = yaml.safe_load(block[1])
    return values


def test_vault_writes_the_files_that_the_worker_reads(rehearse: Rehearse) -> None:
    release = rehearse(ROOM, {"storage": FIVE["storage"]}, of_section("Vault"))

    files = {
        document["metadata"]["name"]: [
            entry["objectName"] for entry in yaml.safe_load(document["spec"]["parameters"]["objects"])
        ]
        for document in release.all("SecretProviderClass")
    }
    mounted = {
        name: files[release.volumes[name]["csi"]["volumeAttributes"]["secretProviderClass"]]
        for name in ("broker", "accounts")
    }
    assert mounted == {"broker": ["WORKER_AMQP__URL"], "accounts": ["app1"]}


def test_a_worker_on_a_spot_node_ends_within_its_notice(rehearse: Rehearse) -> None:
    page = (CHART.parent / "docs/kubernetes.md").read_text()
    (block,) = re.findall(r"^```yaml\n(nodeSelector:\n  karpenter.*?)^```", page, re.DOTALL | re.MULTILINE)

    pod = rehearse(yaml.safe_load(block)).pod["spec"]

    assert pod["terminationGracePeriodSeconds"] < 120
    assert pod["nodeSelector"]["karpenter.sh/capacity-type"] == "spot"


def test_on_ipv6_the_policy_names_ccfs_by_its_address(rehearse: Rehearse) -> None:
    release = rehearse(of_section("IPv6 only"))

    assert release.env["WORKER_HTTP__HOST"] == "::"
    assert {"ipBlock": {"cidr": "2001:db8::7/128"}} in peers(release)


def peers(release: Release) -> list[Mapping[str, Any]]:
    return [peer for rule in release.one("NetworkPolicy")["spec"]["egress"] for peer in rule.get("to", ())]


def test_without_its_tests_the_chart_makes_no_pod_of_its_own(rehearse: Rehearse) -> None:
    """As `helm template --skip-tests` leaves them out: by the hook."""
    hooks = [
        document
        for document in rehearse().documents
        if "helm.sh/hook" in document["metadata"].get("annotations", {})
    ]

    assert [(hook["kind"], hook["metadata"]["annotations"]["helm.sh/hook"]) for hook in hooks] == [
        ("Pod", "test")
    ]
    assert rehearse().all("Pod") == hooks


def test_every_value_that_the_pages_name_exists() -> None:
    rows = re.findall(r"^\| `([\w.]+)`", (CHART / "README.md").read_text(), re.MULTILINE)
    known = set(rows) | {name.rpartition(".")[0] for name in rows}
    # What belongs to Kubernetes, such as a pod's security context, is one value with parts of its own.
    whole = tuple(f"{name}." for name in rows)

    for page in PAGES:
        named = re.findall(r"`([a-z]\w*(?:\.[a-z]\w*)+)`", page.read_text())
        ours = [name for name in named if name.split(".")[0] in {row.split(".")[0] for row in rows}]
        assert [name for name in ours if name not in known and not name.startswith(whole)] == [], page


def test_the_comparison_names_values_that_exist() -> None:
    page = (CHART.parent / "docs/kubernetes.md").read_text()
    table = page.partition("## Beside other charts")[2].partition("What they have and this chart does not")[0]
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    shared = {"global.imageRegistry", "global.imagePullSecrets"}

    ours = [re.findall(r"`([\w.]+)`", line.split(" | ")[-1]) for line in table.splitlines() if "`" in line]

    assert len(ours) > 20
    assert [name for row in ours for name in row if name not in shared and not has(schema, name)] == []


def has(schema: Document, name: str) -> bool:
    first, _, rest = name.partition(".")
    inner = schema.get("properties", {}).get(first)
    return inner is not None and (not rest or has(inner, rest))
