"""Make values.schema.json from the values and their comments."""

import json

from devkit.generate.chart.values import Group, Value

_OF_HELM: dict[str, object] = {
    "global": {"type": "object", "description": "Shared values of the chart that this one is a part of."},
    "enabled": {"type": "boolean", "description": "For a condition in the chart that this one is a part of."},
}


def make(values: Group) -> str:
    """Return the schema. It refuses unknown keys, except inside what Kubernetes itself defines.

    Args:
        values: The chart's values.

    Returns:
        The text of values.schema.json. It keeps to draft 7, the newest that Helm 3.8 and later all read.
    """
    root = _group(values)
    properties = root["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - made below
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart ccfs-worker",
        **root,
        "properties": {**properties, **_OF_HELM},
        "patternProperties": {
            "^x-": {"description": "For YAML anchors and the like; the chart takes no notice."}
        },
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _group(group: Group) -> dict[str, object]:
    properties = {
        key: _group(member) if isinstance(member, Group) else _value(member)
        for key, member in group.members.items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(value: Value) -> dict[str, object]:
    told = {} if "enum" in value.schema else {"type": _type(value.default)}
    return {"description": value.description, **told, **value.schema, "default": value.default}


def _type(default: object) -> str:
    # bool before int: True is an int too.
    for kind, name in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    ):
        if isinstance(default, kind):
            return name
    return "null"
