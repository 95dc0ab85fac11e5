"""The rooms of connections and files are built on what libraries promise, not on what is inside of them.

That no attribute with an underscore is taken from elsewhere, ruff sees (SLF001); here is what it cannot see.
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import worker.ccfs
import worker.storage

ROOMS = (worker.ccfs, worker.storage)
UNDOCUMENTED = {"sslobject_class", "set_read_buffer_limits", "start_tls", "get_protocol", "set_protocol"}
"""Ways under a transport or into ssl's objects that were taken before, or may tempt."""
MODULES = [found.name for room in ROOMS for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")]


def private(names: object) -> set[str]:
    return {name for name in vars(names) if name.startswith("_") and not name.endswith("__")}


@pytest.mark.parametrize("name", MODULES)
def test_no_class_overrides_a_librarys_private_method(name: str) -> None:
    module = importlib.import_module(name)
    for _, ours in inspect.getmembers(module, inspect.isclass):
        if ours.__module__ != name:
            continue
        for base in ours.__mro__[1:]:
            if not base.__module__.startswith("worker."):
                assert private(ours) & private(base) == set(), f"{ours} over {base}"


@pytest.mark.parametrize("name", MODULES)
def test_nothing_private_or_undocumented_is_used(name: str) -> None:
    tree = ast.parse(Path(importlib.import_module(name).__file__ or "").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        for part in (*alias.name.split("."), *(getattr(node, "module", "") or "").split("."))
    }

    assert not used & UNDOCUMENTED
    assert not {part for part in imported if part.startswith("_") and part != "__future__"}
    assert "aiohttp" not in imported
