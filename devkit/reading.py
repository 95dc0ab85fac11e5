"""Measure how a package reads: `python -m devkit.reading [FOLDER ...]`, by default `worker`.

Prints a row for each package: the modules at its top, how long its functions are without their docstrings,
and the shares of private functions and of lines that are comments.
"""

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_HEAD = (
    "package",
    "modules at the top",
    "function lines, median / p90",
    "private",
    "called once",
    "comments",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Reading:
    """The numbers of one package.

    Attributes:
        name: Its folder's name.
        top_modules: Python files in the folder itself, `__init__` and `__main__` not counted.
        lengths: The lines of each function, signature included, docstring not.
        private: The part of the functions whose names start with a single underscore; None without functions.
        called_once: Private functions that are mentioned once, and how many of those hold one statement.
        comments: The part of the lines that are nothing but a comment.
    """

    name: str
    top_modules: int
    lengths: Sequence[int]
    private: float | None
    called_once: tuple[int, int]
    comments: float


def read_package(folder: Path) -> Reading:
    """Measure the package in `folder`.

    Raises:
        SyntaxError: A file is not Python.
        ValueError: The folder has no Python in it.
    """
    sources = {path: path.read_text() for path in sorted(folder.rglob("*.py"))}
    if not any(sources.values()):
        raise ValueError(f"{folder}: no Python in there; give the folder of a package")
    trees = [ast.parse(text, str(path)) for path, text in sources.items()]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, Function)]
    private = [function for function in functions if _is_private(function.name)]
    once = [function for tree in trees for function in _called_once(tree)]
    lines = sum(text.count("\n") for text in sources.values())
    return Reading(
        name=folder.name,
        top_modules=sum(not path.name.startswith("__") for path in folder.glob("*.py")),
        lengths=[_length(function) for function in functions],
        private=len(private) / len(functions) if functions else None,
        called_once=(len(once), sum(len(_statements(function)) == 1 for function in once)),
        comments=sum(_comment_lines(text) for text in sources.values()) / lines,
    )


def table(readings: Sequence[Reading]) -> str:
    """The readings as a Markdown table."""
    rows = [_HEAD, ("---",) * len(_HEAD), *map(_row, readings)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(reading: Reading) -> tuple[str, ...]:
    lengths = reading.lengths
    # Quantiles need two functions.
    p90 = statistics.quantiles(lengths, n=10)[-1] if len(lengths) > 1 else max(lengths, default=0)
    once, short = reading.called_once
    return (
        reading.name,
        f"{reading.top_modules}",
        f"{statistics.median(lengths):g} / {p90:.0f}" if lengths else "-",
        "-" if reading.private is None else f"{reading.private:.0%}",
        f"{once}, {short} of them of one statement",
        f"{reading.comments:.1%}",
    )


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _called_once(module: ast.Module) -> Iterator[Function]:
    mentions = Counter(_mentions(module))
    for node in ast.walk(module):
        if isinstance(node, Function) and _is_private(node.name) and mentions[node.name] == 1:
            yield node


def _mentions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _statements(function: Function) -> Sequence[ast.stmt]:
    has_docstring = ast.get_docstring(function, clean=False) is not None
    return function.body[1:] if has_docstring else function.body


def _length(function: Function) -> int:
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return whole
    docstring = function.body[0]
    return whole - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def _comment_lines(text: str) -> int:
    return sum(
        token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )


if __name__ == "__main__":
    try:
        print(table([read_package(Path(folder)) for folder in sys.argv[1:] or ["worker"]]))
    except ValueError as exc:
        sys.exit(str(exc))
