"""Read the chart's values.yaml together with the comments that describe each value.

The comments are those of helm-docs and helm-schema, one line each:

    # @section Storage          opens a section, up to the next one
    # -- What the value is.     may go on in further comment lines
    # @schema {minimum: 1}      JSON Schema keywords as YAML, beside what the default value tells

A mapping with a `# --` comment is one value, passed on to Kubernetes as it is; one without is a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

_DESCRIPTION = "# -- "
_SCHEMA = "# @schema "
_SECTION = "# @section "


class ValuesError(Exception):
    """The comments of values.yaml are wrong; the text says where."""


@dataclass(frozen=True)
class Value:
    """A value that users set.

    Attributes:
        path: Its keys from the top.
        default: What it is when not set.
        description: Its comment, as one line.
        schema: JSON Schema keywords from its comment.
        section: The section it stands in.
    """

    path: tuple[str, ...]
    default: object
    description: str
    schema: dict[str, object]
    section: str


@dataclass(frozen=True)
class Group:
    """A mapping of values and groups by key."""

    members: "dict[str, Value | Group]"

    def values(self) -> Iterator[Value]:
        """Yield all values below, in order."""
        for member in self.members.values():
            if isinstance(member, Value):
                yield member
            else:
                yield from member.values()


def read(text: str) -> Group:
    """Read values.yaml.

    Args:
        text: The file's text.

    Returns:
        The group of everything in it.

    Raises:
        ValuesError: A value has no description, or a comment cannot be read.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        raise ValuesError("values.yaml is no mapping")
    return _Reader(text).group(node, ())


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = [line.strip() for line in text.splitlines()]

    def group(self, node: yaml.MappingNode, path: tuple[str, ...]) -> Group:
        return Group({key.value: self._member(key, value, (*path, key.value)) for key, value in node.value})

    def _member(self, key: yaml.Node, node: yaml.Node, path: tuple[str, ...]) -> Value | Group:
        line = key.start_mark.line
        description, schema = self._comment(line)
        if description:
            return Value(path, _plain(node), description, schema, self._section(line))
        if isinstance(node, yaml.MappingNode) and node.value:
            return self.group(node, path)
        raise ValuesError(f"values.yaml:{line + 1}: {'.'.join(path)} has no `# --` comment")

    def _comment(self, line: int) -> tuple[str, dict[str, object]]:
        words: list[str] = []
        schema: dict[str, object] = {}
        for text in self._comment_lines(line):
            if text.startswith(_SCHEMA):
                schema |= yaml.safe_load(text.removeprefix(_SCHEMA))
            elif text.startswith(_DESCRIPTION):
                words = [text.removeprefix(_DESCRIPTION)]
            elif words:
                words.append(text.removeprefix("#").strip())
        return " ".join(words), schema

    def _comment_lines(self, line: int) -> list[str]:
        start = line
        while start > 0 and self._lines[start - 1].startswith("#"):
            start -= 1
        return self._lines[start:line]

    def _section(self, line: int) -> str:
        for text in reversed(self._lines[:line]):
            if text.startswith(_SECTION):
                return text.removeprefix(_SECTION)
        raise ValuesError(f"values.yaml:{line + 1}: stands in no section")


def _plain(node: yaml.Node) -> object:
    plain: object = yaml.constructor.SafeConstructor().construct_document(node)
    return plain
