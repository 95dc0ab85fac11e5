"""docs/observability.md names what the code logs, and nothing else."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/observability.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "exception"}
OF_THE_SIMULATOR = {"simulator.answered", "simulator.started", "simulator.stopped"}


def logged() -> Iterator[tuple[str, str]]:
    """Every event of the worker's own with its level, from the source."""
    for file in (ROOT / "worker").rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if node.value.id == "log" and node.attr in LEVELS:
                yield from ((event, node.attr) for event in events_at(tree, node, names))


def events_at(tree: ast.Module, method: ast.Attribute, names: Mapping[str, object]) -> Iterator[str]:
    """The event that a log method is given, also where the method is handed on with its arguments."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        arguments = [call.func, *call.args]
        if method in arguments:
            event = arguments[arguments.index(method) + 1]
            yield str(names[event.id] if isinstance(event, ast.Name) else ast.literal_eval(event))


def test_each_event_has_its_line_with_its_level() -> None:
    told = dict(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (\w+) \|", PAGE, re.MULTILINE))
    levels = {event: "error" if level == "exception" else level for event, level in logged()}
    assert told == {event: level for event, level in levels.items() if event not in OF_THE_SIMULATOR}


def test_the_picture_is_there() -> None:
    assert (ROOT / "docs/dashboard.png").read_bytes().startswith(b"\x89PNG")
