"""Make the tables of the chart's README from the values and their comments."""

import json
from collections.abc import Iterator
from itertools import groupby

from devkit.generate.chart.values import Group, Value


def tables(values: Group) -> str:
    """Return one table for each section, in Markdown.

    Args:
        values: The chart's values.

    Returns:
        The text, ending in a newline.
    """
    return "\n".join(_lines(values))


def _lines(values: Group) -> Iterator[str]:
    for section, members in groupby(values.values(), key=lambda value: value.section):
        yield f"### {section}\n"
        yield "| value | what it is | default |"
        yield "| --- | --- | --- |"
        yield from map(_row, members)
        yield ""


def _row(value: Value) -> str:
    default = "" if value.default is None else f"`{json.dumps(value.default, ensure_ascii=False)}`"
    return f"| `{'.'.join(value.path)}` | {_cell(value.description)} | {_cell(default)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
