"""Custom resources, held to the schemas of those who define them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.helm.release import Document

_FOLDER = Path(__file__).parents[1] / "data/crds"


def check(document: Document) -> None:
    """Raises jsonschema.ValidationError where an API server would refuse an object or leave out a field."""
    jsonschema.Draft202012Validator(SCHEMAS[document["apiVersion"], document["kind"]]).validate(document)


def _closed(schema: Any) -> Any:
    """The schema without room for unknown fields, which an API server would leave out."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    has_fields = isinstance(closed.get("properties"), dict) and "type" in closed
    return {"additionalProperties": False, **closed} if has_fields else closed


def _read() -> Mapping[tuple[str, str], Document]:
    documents = (
        document for file in _FOLDER.glob("*.yaml") for document in yaml.safe_load_all(file.read_text())
    )
    schemas = {}
    for document in documents:
        schema = _closed(document["schema"])
        schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        schemas[document["apiVersion"], document["kind"]] = schema
    return schemas


SCHEMAS = _read()
"""Closed schemas by API version and kind."""
