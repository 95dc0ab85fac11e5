"""The JSON Schemas of the messages, derived from the models."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from schemas.job import DownloadJob
from schemas.outcomes import DownloadCompleted, DownloadFailed, FailedJob

Document = dict[str, Any]

CONTRACT_VERSION = "1.1.0"
"""The version of the messages, not of the worker: it changes only when they do."""

HOME = "https://ccfs-worker.example.com/"
"""Where the project's site is. JSON Schemas are known by their address on it."""

MODELS: dict[type[BaseModel], JsonSchemaMode] = {
    DownloadJob: "validation",
    DownloadCompleted: "serialization",
    DownloadFailed: "serialization",
    FailedJob: "serialization",
}
"""The messages and their direction: a job is read, an outcome is written."""


class _Plain(GenerateJsonSchema):
    """Keeps the models' order, and omits titles and defaults, which add nothing."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema(model: type[BaseModel]) -> Document:
    """The JSON Schema of a message (draft 2020-12; it means the same under draft 7).

    It has all rules of the model but one, which only its description states: a file's name begins with a
    real calendar date.
    """
    schema = model.model_json_schema(by_alias=True, mode=MODELS[model], schema_generator=_Plain)
    whole: Document = _inlined(schema, schema.pop("$defs", {}))
    return whole


def _inlined(part: Any, definitions: Document) -> Any:  # noqa: ANN401 - whatever JSON has
    """Put each definition where it is referred to: drafts 7 and 2020-12 have other places for them."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(value, definitions) for name, value in part.items()}
