"""What can be set, what is set, and by whom: for operators, and for the reference in `docs/`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from worker.net.urls import MASK, masked
from worker.settings import SECRETS_DIR, Place, Settings, SettingsError, load, places, sources
from worker.watches.descriptors import limit_problems

DEFAULT = "default"
UNSET = "unset"

_REFERENCE = """\
# Settings

Each setting is an environment variable. A file `.env` in the working directory may hold them too, and so may
a directory of files called like the variables, such as a mounted Secret, that `{secrets_dir}` names. The
environment wins over `.env`, and both win over the files. An empty variable counts as not set.

`ccfs-worker config` shows what is in effect and where it comes from; `ccfs-worker check` tries it all out.

<!-- `make generate` makes this page from worker/settings.py; so does `ccfs-worker config --markdown`. -->

{sections}"""
_HEAD = "| variable | values | default | meaning |\n| --- | --- | --- | --- |"

_KINDS = {
    "array": "JSON list of seconds",
    "boolean": "`true` or `false`",
    "names": "JSON list of names",
    "password": "text",
    "path": "path",
    "string": "text",
    "uri": "URL",
}
_BOUNDS = (
    ("minimum", "from {:,}"),
    ("exclusiveMinimum", "above {:,}"),
    ("maximum", "to {:,}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Something that can be set.

    Attributes:
        variable: The environment variable.
        about: What its group is for.
        description: What it does.
        values: What it may be, unit included.
        default: As one would write it; None when there is none.
        required: Whether the worker needs it.
    """

    variable: str
    about: str
    description: str
    values: str
    default: str | None
    required: bool

    @classmethod
    def of(cls, place: Place) -> "Setting":
        """Describe what can be set in a place."""
        field = place.model.model_fields[place.path[-1]]
        group = "The worker as a whole." if place.model is Settings else place.model.__doc__ or ""
        return cls(
            variable=place.variable,
            about=cleandoc(group),
            description=" ".join((field.description or "").split()),
            values=_values(_schema(place)),
            default=None if field.is_required() else _written(field.default),
            required=field.is_required(),
        )

    @property
    def default_cell(self) -> str:
        """The default in a Markdown table."""
        if self.required:
            return "required"
        return f"`{self.default}`" if self.default is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """A setting as it is in effect.

    Attributes:
        setting: Which.
        value: As it was written, a password in it masked; None when there is none.
        source: `environment`, `.env`, the directory of secret files, `default` or `unset`.
        problem: What is wrong with it, as one line; empty when nothing is.
    """

    setting: Setting
    value: str | None
    source: str
    problem: str


def reference() -> list[Setting]:
    """Everything that can be set."""
    return [Setting.of(place) for place in places()]


def effective() -> list[Effective]:
    """Everything as it is in effect, whether the worker could run with it or not.

    Raises:
        SettingsError: A source cannot be read.
    """
    found = [(name, source()) for name, source in sources().items()]
    try:
        lines = tuple(limit_problems(load().concurrency))
    except SettingsError as exc:
        lines = exc.lines
    problems = {variable: problem for variable, _, problem in (line.partition(": ") for line in lines)}
    return [_effective(place, found, problems.get(place.variable, "")) for place in places()]


def markdown() -> str:
    """The reference of the settings as a page of the documents."""
    sections = []
    for about, settings in groupby(reference(), lambda setting: setting.about):
        rows = "\n".join(
            f"| `{setting.variable}` | {setting.values} | {setting.default_cell} | {setting.description} |"
            for setting in settings
        )
        sections.append(f"## {about.rstrip('.')}\n\n{_HEAD}\n{rows}\n")
    return _REFERENCE.format(secrets_dir=SECRETS_DIR, sections="\n".join(sections))


def _effective(place: Place, found: Iterable[tuple[str, Mapping[str, Any]]], problem: str) -> Effective:
    setting = Setting.of(place)
    written = ((source, _at(values, place.path)) for source, values in found)
    default = (DEFAULT if setting.default is not None else UNSET, setting.default)
    source, value = next(((source, raw) for source, raw in written if raw is not None), default)
    return Effective(
        setting=setting,
        value=None if value is None else _shown(place, value),
        source=source,
        problem=problem,
    )


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    found: object = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return None if found is None else str(found)


def _shown(place: Place, value: str) -> str:
    """A value without its secret: in a URL that must have none, too, somebody may have put a login."""
    if _schema(place).get("format") == "uri":
        return masked(value) if place.is_secret or "@" in value else value
    return MASK if place.is_secret else value


def _written(default: object) -> str | None:
    """A default as one would write it into the environment."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, tuple):
        return f"[{', '.join(_written(number) or '' for number in default)}]"
    if default is None or isinstance(default, str | Path):
        return None if default is None else str(default)
    return f"{default:.0f}" if isinstance(default, float) and default.is_integer() else json.dumps(default)


def _schema(place: Place) -> dict[str, Any]:
    """The JSON Schema of a setting, without the choice of null."""
    rule = place.model.model_json_schema()["properties"][place.path[-1]]
    allowed = next(option for option in rule.get("anyOf", [rule]) if option.get("type") != "null")
    return {**rule, **allowed}


def _values(rule: dict[str, Any]) -> str:
    """What the JSON Schema of a setting allows, in words."""
    if "enum" in rule:
        return " or ".join(f"`{value}`" for value in rule["enum"])
    kind = _KINDS.get(rule.get("format") or rule["type"], rule.get("unit", "number"))
    bounds = " ".join(words.format(rule[bound]) for bound, words in _BOUNDS if bound in rule)
    return ", ".join(part for part in (kind, bounds) if part) + ("; secret" if rule.get("writeOnly") else "")
