"""Custom resources, held to what is known of their fields.

Those of KEDA and Flux are held to the models of the packages `cloudcoil-models-keda` and
`cloudcoil-models-fluxcd`. For the others there is no package that refuses unknown fields: the fields that we
use are written down here, after these sources. A field that we come to use has to be looked up there.

- RabbitMQ's Messaging Topology Operator 1.20.1: its CRDs in `config/crd/bases`
  (https://github.com/rabbitmq/messaging-topology-operator/tree/v1.20.1/config/crd/bases).
- Argo CD 3: https://argo-cd.readthedocs.io/en/stable/operator-manual/application.yaml.
- External Secrets: https://external-secrets.io/latest/api/externalsecret/, API `external-secrets.io/v1`.
- Secrets Store CSI driver, and its provider for Vault:
  https://secrets-store-csi-driver.sigs.k8s.io/concepts#secretproviderclass.
- Cilium: https://docs.cilium.io/en/stable/security/policy/language/, API `cilium.io/v2`.
"""

from copy import deepcopy
from typing import Any, Literal

from cloudcoil.models.fluxcd.helm.v2 import HelmRelease
from cloudcoil.models.fluxcd.source.v1 import GitRepository
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from pydantic import BaseModel, ConfigDict, Field

from tests.helm.release import Document

_FALLBACKS = {"static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"}
"""`fallback.behavior`, which KEDA has since 2.17 and the package, of 2.16, does not know."""


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Reference(_Fields):
    name: str


class _Metadata(_Fields):
    name: str
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _User(_Fields):
    rabbitmqClusterReference: _Reference  # noqa: N815 - the operator's name
    tags: list[str] = []
    importCredentialsSecret: _Reference | None = None  # noqa: N815


class _Rights(_Fields):
    configure: str
    write: str
    read: str


class _Permission(_Fields):
    rabbitmqClusterReference: _Reference  # noqa: N815
    userReference: _Reference  # noqa: N815
    vhost: str
    permissions: _Rights


class _Exchange(_Fields):
    rabbitmqClusterReference: _Reference  # noqa: N815
    name: str
    vhost: str = "/"
    type: Literal["direct", "topic", "fanout", "headers"]
    durable: bool


class _Queue(_Fields):
    rabbitmqClusterReference: _Reference  # noqa: N815
    name: str
    vhost: str = "/"
    type: Literal["quorum", "classic", "stream"]
    durable: bool
    deletionPolicy: Literal["delete", "retain"]  # noqa: N815
    arguments: dict[str, Any] = {}


class _Binding(_Fields):
    rabbitmqClusterReference: _Reference  # noqa: N815
    vhost: str = "/"
    source: str
    destination: str
    destinationType: Literal["queue", "exchange"]  # noqa: N815
    routingKey: str  # noqa: N815


class _ArgoHelm(_Fields):
    releaseName: str  # noqa: N815
    skipTests: bool  # noqa: N815
    valuesObject: dict[str, Any]  # noqa: N815


class _ArgoSource(_Fields):
    repoURL: str  # noqa: N815
    targetRevision: str  # noqa: N815
    path: str
    helm: _ArgoHelm


class _ArgoDestination(_Fields):
    server: str
    namespace: str


class _ArgoAutomated(_Fields):
    prune: bool
    selfHeal: bool  # noqa: N815


class _ArgoSyncPolicy(_Fields):
    automated: _ArgoAutomated


class _Application(_Fields):
    project: str
    source: _ArgoSource
    destination: _ArgoDestination
    syncPolicy: _ArgoSyncPolicy  # noqa: N815


class _SecretStore(_Fields):
    kind: Literal["SecretStore", "ClusterSecretStore"]
    name: str


class _ExtractedKey(_Fields):
    key: str


class _Extract(_Fields):
    extract: _ExtractedKey


class _ExternalSecret(_Fields):
    refreshInterval: str = Field(pattern=r"^([0-9]+(s|m|h))+$")  # noqa: N815
    secretStoreRef: _SecretStore  # noqa: N815
    dataFrom: list[_Extract]  # noqa: N815


class _VaultParameters(_Fields):
    vaultAddress: str  # noqa: N815
    roleName: str  # noqa: N815
    objects: str


class _SecretProviderClass(_Fields):
    provider: Literal["vault"]
    parameters: _VaultParameters


class _Labels(_Fields):
    matchLabels: dict[str, str]  # noqa: N815


class _CiliumPort(_Fields):
    port: str
    protocol: Literal["TCP", "UDP", "ANY"]


class _CiliumDns(_Fields):
    matchPattern: str  # noqa: N815


class _CiliumRules(_Fields):
    dns: list[_CiliumDns]


class _CiliumPorts(_Fields):
    ports: list[_CiliumPort]
    rules: _CiliumRules | None = None


class _CiliumName(_Fields):
    matchName: str  # noqa: N815


class _CiliumIngress(_Fields):
    fromEndpoints: list[_Labels]  # noqa: N815
    toPorts: list[_CiliumPorts]  # noqa: N815


class _CiliumEgress(_Fields):
    toEndpoints: list[_Labels] = []  # noqa: N815
    toFQDNs: list[_CiliumName] = []  # noqa: N815
    toPorts: list[_CiliumPorts]  # noqa: N815


class _CiliumNetworkPolicy(_Fields):
    endpointSelector: _Labels  # noqa: N815
    ingress: list[_CiliumIngress]
    egress: list[_CiliumEgress]


_SPECS: dict[tuple[str, str], type[_Fields]] = {
    ("rabbitmq.com/v1beta1", "User"): _User,
    ("rabbitmq.com/v1beta1", "Permission"): _Permission,
    ("rabbitmq.com/v1beta1", "Exchange"): _Exchange,
    ("rabbitmq.com/v1beta1", "Queue"): _Queue,
    ("rabbitmq.com/v1beta1", "Binding"): _Binding,
    ("argoproj.io/v1alpha1", "Application"): _Application,
    ("external-secrets.io/v1", "ExternalSecret"): _ExternalSecret,
    ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass"): _SecretProviderClass,
    ("cilium.io/v2", "CiliumNetworkPolicy"): _CiliumNetworkPolicy,
}
WRITTEN_DOWN = {kind for _, kind in _SPECS}
"""The kinds whose fields are written down here."""
FLUX: dict[str, type[BaseModel]] = {"HelmRelease": HelmRelease, "GitRepository": GitRepository}
"""Models of Flux's kinds, in the versions that the documents use."""
_KEDA: dict[str, type[BaseModel]] = {
    "ScaledObject": ScaledObject,
    "TriggerAuthentication": TriggerAuthentication,
}


def keda_model(document: Document) -> tuple[Document, type[BaseModel]] | None:
    """A KEDA object as its model knows it, and the model; None for any other object.

    Raises:
        AssertionError: The fallback's behavior is none that KEDA has.
    """
    if (model := _KEDA.get(document["kind"])) is None:
        return None
    known = deepcopy(document)
    fallback = known["spec"].get("fallback", {})
    assert fallback.pop("behavior", "static") in _FALLBACKS
    return known, model


def check_written_down(document: Document) -> None:
    """Check an object of a kind whose fields are written down here.

    Raises:
        KeyError: Its kind, in this version, is none of those that we use.
        pydantic.ValidationError: A field is unknown, missing or of another type.
    """
    fields = dict(document)
    spec = _SPECS[fields.pop("apiVersion"), fields.pop("kind")]
    spec.model_validate(fields.pop("spec"))
    _Metadata.model_validate(fields.pop("metadata"))
    assert fields == {}
