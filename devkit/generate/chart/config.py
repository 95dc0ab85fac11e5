"""Derive the chart's `config` values from the worker's settings."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml
from pydantic.fields import FieldInfo

from worker.settings import places

WIRED: Mapping[str, str] = {
    "WORKER_AMQP__URL": "broker",
    "WORKER_AMQP__MANAGEMENT_URL": "broker",
    "WORKER_AMQP__USERNAME": "broker.login",
    "WORKER_AMQP__PASSWORD": "broker.login",
    "WORKER_AMQP__CA_FILE": "tls.broker.ca",
    "WORKER_AMQP__CERT_FILE": "tls.broker.clientCertificate",
    "WORKER_AMQP__KEY_FILE": "tls.broker.clientCertificate",
    "WORKER_CCFS__CA_FILE": "tls.ccfs.ca",
    "WORKER_CREDENTIALS__DIR": "accounts",
    "WORKER_STORAGE__ROOT": "storage.mountPath",
}
"""Settings that the chart makes from other values, since they name a Secret or a volume: and from which."""

_CHART_DEFAULTS: Mapping[str, object] = {
    # Pods that end cost nothing, jobs that are cut off must be downloaded again.
    "WORKER_SHUTDOWN_GRACE": 120,
    # The templates need it too.
    "WORKER_HTTP__PORT": 8080,
}

_CHART_SCHEMA: Mapping[str, Mapping[str, object]] = {
    "WORKER_CCFS__BASE_URL": {"pattern": r"^https?://[^/?#\s]+/?$"},
    "WORKER_HTTP__PORT": {"minimum": 1024},
}
"""What the chart asks beyond the worker: the NetworkPolicy is made from the URL, and probes need a fixed port
that an unprivileged user can listen on."""

_DROPPED = frozenset({"title", "description", "default", "format", "unit", "writeOnly"})
_WIDTH = 110


@dataclass(frozen=True)
class Setting:
    """A setting of the worker.

    Attributes:
        variable: Its environment variable.
        path: Its keys below `config`, as Helm writes them.
        field: What pydantic knows of it.
        schema: Its JSON Schema.
        is_secret: Whether its value is never shown.
    """

    variable: str
    path: tuple[str, ...]
    field: FieldInfo
    schema: Mapping[str, object]
    is_secret: bool


def settings() -> Iterator[Setting]:
    """Return every setting of the worker, the wired ones included."""
    for place in places():
        name = place.path[-1]
        schema = place.model.model_json_schema()["properties"][name]
        path = tuple(map(_camel, place.path))
        yield Setting(place.variable, path, place.model.model_fields[name], schema, place.is_secret)


def block() -> str:
    """Write the `config` block of values.yaml.

    Raises:
        ValueError: A secret setting has no other place in the chart, and everyone could read it here.
    """
    lines = ["config:"]
    group: tuple[str, ...] = ()
    for setting in sorted(_free(), key=lambda setting: len(setting.path)):
        if setting.path[:-1] != group:
            group = setting.path[:-1]
            lines += [f"  {group[0]}:"]
        indent = "  " * len(setting.path)
        lines += [indent + line for line in _entry(setting)]
    return "\n".join(lines) + "\n"


def _free() -> Iterator[Setting]:
    for setting in settings():
        if setting.variable in WIRED:
            continue
        if setting.is_secret:
            raise ValueError(
                f"{setting.variable} is a secret: give it a Secret in the chart, then name that in WIRED"
            )
        yield setting


def _entry(setting: Setting) -> Iterator[str]:
    width = _WIDTH - 2 * len(setting.path) - len("# ")
    yield from (
        f"# {line}" for line in textwrap.wrap(f"-- {_description(setting)}", width, break_on_hyphens=False)
    )
    yield f"# @schema {_flow(_schema(setting))}"
    default = _CHART_DEFAULTS.get(setting.variable)
    yield f"{setting.path[-1]}:" + ("" if default is None else f" {json.dumps(default)}")


def _description(setting: Setting) -> str:
    text = " ".join((setting.field.description or "").split())
    default = setting.field.default
    if setting.field.is_required():
        text += " Required."
    elif default is not None:
        text += f" Unset is `{_short(default)}`."
    return f"{text} Sets `{setting.variable}`."


def _short(default: object) -> str:
    # As users write it: 1500, not 1500.0.
    return re.sub(r"\.0(?=[],]|$)", "", json.dumps(default))


def _schema(setting: Setting) -> dict[str, object]:
    schema = {**_flat(setting.schema), **_CHART_SCHEMA.get(setting.variable, {})}
    if "enum" in schema:
        return {"enum": [*_items(schema["enum"]), None]}
    if schema["type"] == "array" and "maxLength" in schema:
        # This is how pydantic writes the bound of a list that a validator of ours makes.
        schema["maxItems"] = schema.pop("maxLength")
    return {**schema, "type": [schema["type"], "null"]}


def _flat(schema: Mapping[str, object]) -> dict[str, object]:
    """Drop the keywords that say nothing about the value, and the choice between a type and null."""
    flat = {key: value for key, value in schema.items() if key not in _DROPPED}
    for choice in _items(flat.pop("anyOf", [])):
        if choice != {"type": "null"}:
            flat |= _flat(choice)
    return flat


def _items(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)  # noqa: S101 - so JSON Schema says of enum and anyOf
    return value


def _flow(schema: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(schema), default_flow_style=True, sort_keys=True, width=10_000).strip()


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
