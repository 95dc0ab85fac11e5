"""Write the documents of the messages beside the models that they are made from: `python -m schemas`."""

import json
from pathlib import Path

import yaml
from pydantic import BaseModel

from schemas.asyncapi import asyncapi
from schemas.documents import CONTRACT_VERSION, HOME, MODELS, Document, json_schema

HERE = Path(__file__).parent
_NOTE = "Written by `make generate` from the models; edit those."


class _Dumper(yaml.SafeDumper):
    """Repeats values instead of using aliases, and writes text of several lines as a block."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def documents() -> dict[Path, str]:
    """Return every document by its file."""
    schemas = {HERE / "json" / f"{model.__name__}.schema.json": _json_schema(model) for model in MODELS}
    return {HERE / "asyncapi.yaml": f"# {_NOTE}\n{_yaml(asyncapi())}", **schemas}


def _json_schema(model: type[BaseModel]) -> str:
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{HOME}schemas/{CONTRACT_VERSION}/{model.__name__}.schema.json",
        "$comment": _NOTE,
    }
    return json.dumps(head | json_schema(model), indent=2) + "\n"


def _yaml(document: Document) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def main() -> None:
    """Write them."""
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
