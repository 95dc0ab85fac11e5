"""Custom resources, held to what is known of their fields.

KEDA's are held to the models of the package `cloudcoil-models-keda`. No package has those of RabbitMQ's
Messaging Topology Operator: the fields that we use are written down here, after the operator's documentation.
"""

from copy import deepcopy
from typing import Any, Literal

from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from pydantic import BaseModel, ConfigDict

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


class _Object(_Fields):
    apiVersion: Literal["rabbitmq.com/v1beta1"]  # noqa: N815
    metadata: _Metadata


_SPECS: dict[str, type[_Fields]] = {
    "User": _User,
    "Permission": _Permission,
    "Exchange": _Exchange,
    "Queue": _Queue,
    "Binding": _Binding,
}
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


def check_topology(document: Document) -> None:
    """Check an object of the Messaging Topology Operator.

    Raises:
        KeyError: Its kind is none of those that we use.
        pydantic.ValidationError: A field is unknown, missing or of another type.
    """
    fields = dict(document)
    _SPECS[fields.pop("kind")].model_validate(fields.pop("spec"))
    _Object.model_validate(fields)
