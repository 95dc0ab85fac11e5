"""Draw the rooms of the worker from the contracts that `make lint` checks (`[tool.importlinter]`)."""

import ast
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devkit import ROOT

BEGIN = "<!-- BEGIN rooms: `make generate` makes this from pyproject.toml and from the docstrings -->"
END = "<!-- END rooms -->"


@dataclass(frozen=True, slots=True)
class House:
    """A package and the layers of what it holds, the uppermost first.

    Attributes:
        package: Its dotted name.
        layers: The modules and packages of each layer; those of one layer do not import each other.
    """

    package: str
    layers: Sequence[Sequence[str]]


def houses() -> Iterator[House]:
    """Read the layers of each package, the worker itself first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for contract in contracts:
        if contract["type"] == "layers":
            (package,) = contract["containers"]
            yield House(package, [layer.split(" | ") for layer in contract["layers"]])


def picture(house: House) -> str:
    """The layers as a Mermaid diagram: each may import what stands below it."""
    lines = ["```mermaid", "flowchart TB"]
    for number, layer in enumerate(house.layers):
        lines.append(f'    subgraph layer{number} [" "]')
        lines += [f'        {name}["{_shown(house.package, name)}"]' for name in layer]
        lines.append("    end")
    lines += [f"    layer{number} --> layer{number + 1}" for number in range(len(house.layers) - 1)]
    return "\n".join([*lines, "```"])


def table(house: House) -> str:
    """The rooms with the first sentence of their docstrings, the uppermost first."""
    rows = [
        f"| `{_shown(house.package, name)}` | {_promise(house.package, name)} |"
        for layer in house.layers
        for name in layer
    ]
    return "\n".join(("| room | what it is for |", "| --- | --- |", *rows))


def inside(house: House) -> str:
    """The layers of one room, as a line of text."""
    layers = " > ".join(" \\| ".join(f"`{name}`" for name in layer) for layer in house.layers)
    return f"| `{house.package.removeprefix('worker.')}/` | {layers} |"


def section() -> str:
    """The text between the markers of the architecture page."""
    worker, *rooms = houses()
    insides = ("| room | its layers, the uppermost first |", "| --- | --- |", *map(inside, rooms))
    return "\n\n".join((BEGIN, picture(worker), table(worker), "\n".join(insides), END))


def with_section(page: str) -> str:
    """The page with a new section between the markers. Raises ValueError when the markers are not there."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no {BEGIN} followed by {END}")
    return before + section() + after


def _shown(package: str, name: str) -> str:
    return f"{name}/" if _path(package, name).is_dir() else name


def _promise(package: str, name: str) -> str:
    path = _path(package, name)
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text())) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")


def _path(package: str, name: str) -> Path:
    return ROOT.joinpath(*package.split("."), name)
