"""The committed documents are those of the models, and are what their standards ask for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import BaseModel

import schemas
from schemas.__main__ import documents
from schemas.asyncapi import PROPERTIES, asyncapi
from schemas.documents import CONTRACT_VERSION, HOME, MODELS, json_schema
from worker.broker import Names
from worker.core.retry import PARKED
from worker.settings import AmqpGroup

META_SCHEMA = Path(__file__).parents[1] / "data" / "asyncapi-3.1.0.schema.json"
MESSAGES = asyncapi()["components"]["messages"]


def resolved(reference: Any) -> Any:
    """What a `$ref` of the AsyncAPI document points at; anything else as it is."""
    if "$ref" not in reference:
        return reference
    found: Any = asyncapi()
    for part in reference["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all that it is made of."""
    yield schema
    for part in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
        yield from subschemas(part)


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_committed_document_is_what_the_models_say(path: Path) -> None:
    """When it is not, `make generate` writes it anew."""
    assert path.read_text(encoding="utf-8") == documents()[path]


def test_a_parked_job_names_every_code_that_parks() -> None:
    headers = resolved(MESSAGES["parkedJob"]["headers"])

    assert headers["properties"]["x-dead-reason"]["enum"] == list(PARKED)


def test_no_document_is_left_of_a_model_that_is_gone() -> None:
    assert set(Path(schemas.__file__).parent.rglob("*.schema.json")) <= documents().keys()


def test_the_asyncapi_document_passes_the_official_meta_schema() -> None:
    meta_schema = json.loads(META_SCHEMA.read_text(encoding="utf-8"))

    errors = list(Draft7Validator(meta_schema).iter_errors(asyncapi()))

    assert errors == []


def test_the_meta_schema_is_not_content_with_anything() -> None:
    """So that the test above can fail."""
    meta_schema = json.loads(META_SCHEMA.read_text(encoding="utf-8"))
    document = asyncapi()
    document["channels"]["jobs"]["bindings"]["amqp"]["is"] = "pigeon"

    assert list(Draft7Validator(meta_schema).iter_errors(document))


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    references = [
        *(operation["channel"] for operation in document["operations"].values()),
        *(ref for channel in document["channels"].values() for ref in channel["messages"].values()),
        *(message["payload"] for message in MESSAGES.values()),
    ]

    assert all(resolved(reference) for reference in references)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_json_schema_has_the_address_of_its_version(model: type[BaseModel]) -> None:
    """Under it the site has that file; another version of the contract is another schema."""
    file = f"{model.__name__}.schema.json"
    schema = json.loads((Path(schemas.__file__).parent / "json" / file).read_text())

    assert schema["$id"] == f"{HOME}schemas/{CONTRACT_VERSION}/{file}"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_json_schema_means_the_same_to_readers_of_either_draft(model: type[BaseModel]) -> None:
    """AsyncAPI reads schemas as draft 7, the file says 2020-12."""
    schema = json_schema(model)

    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema(schema)
    assert {"$defs", "definitions", "$ref", "prefixItems", "dependentRequired"}.isdisjoint(schema)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_has_a_description_and_valid_examples(model: type[BaseModel]) -> None:
    for name, schema in json_schema(model)["properties"].items():
        assert schema["description"], name
        for part in subschemas(schema):
            for example in part.get("examples", ()):
                Draft202012Validator(part).validate(example)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_examples_of_a_message_are_messages(name: str) -> None:
    message = MESSAGES[name]

    assert message["examples"]
    for example in message["examples"]:
        Draft7Validator(resolved(message["payload"])).validate(example["payload"])
        Draft7Validator(message["headers"]).validate(example.get("headers", {}))


@pytest.mark.parametrize("name", MESSAGES)
def test_the_properties_of_a_message_are_described_by_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(MESSAGES[name][PROPERTIES])


def test_the_channels_have_the_workers_default_names() -> None:
    bindings = [channel["bindings"]["amqp"] for channel in asyncapi()["channels"].values()]
    queues = {binding["queue"]["name"] for binding in bindings if binding["is"] == "queue"}
    exchanges = {binding["exchange"]["name"] for binding in bindings if binding["is"] == "routingKey"}
    names, settings = Names(), AmqpGroup()

    assert queues == {names.jobs, names.results_queue, names.dead, names.failed}
    assert queues == {
        settings.jobs_queue,
        settings.results_queue,
        settings.dead_queue,
        settings.failed_queue,
    }
    assert exchanges == {names.results} == {settings.results_exchange}
