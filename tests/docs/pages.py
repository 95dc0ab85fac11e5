"""Read what a page claims: commands with what they print, and Python programs.

In a block marked `console`, lines that begin with `$ ` are run, and what follows each is what it prints, both
streams together. In that, `…` stands for anything in a line, and for any number of lines when it stands
alone; nothing expected means that nothing is compared. Blocks marked `python` are run as programs. Of `make`
only that the target exists is tested: what the targets do, CI runs.

Blocks marked `sh terminal 1` and `sh terminal 2` are for a reader to paste, as they are, into one of two
terminals; a block `text` that follows is what is printed then. Any other block is not run, such as `sh`,
`text` and `python fragment`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANYTHING = "…"


@dataclass(frozen=True, slots=True)
class Step:
    """Something to run.

    Attributes:
        line: Where it stands in the page.
        command: A line for the shell.
        expected: What it prints.
    """

    line: int
    command: str
    expected: str = ""

    def matches(self, printed: str) -> bool:
        """Whether that is what it was to print."""
        return not self.expected or re.fullmatch(_pattern(self.expected), printed.rstrip()) is not None


def steps(page: Path) -> Iterator[Step]:
    """Give what a page claims to work, in order."""
    text = page.read_text()
    for block in _FENCE.finditer(text):
        line = text.count("\n", 0, block.start(2)) + 1
        if block[1] == "console":
            yield from _commands(line, block[2])
        elif block[1] == "python":
            yield Step(line, f"python - <<'PYTHON'\n{block[2]}PYTHON")


@dataclass(frozen=True, slots=True)
class Paste(Step):
    """A block that a reader pastes.

    Attributes:
        terminal: Into which terminal.
    """

    terminal: int = 1


def pastes(page: Path) -> list[Paste]:
    """Give what a page wants to be pasted, in order."""
    text = page.read_text()
    found: list[Paste] = []
    follows = False
    for block in _FENCE.finditer(text):
        terminal = re.fullmatch(r"sh terminal (\d)", block[1])
        if terminal:
            line = text.count("\n", 0, block.start(2)) + 1
            found.append(Paste(line, block[2], terminal=int(terminal[1])))
        elif follows and block[1] == "text":
            found[-1] = replace(found[-1], expected=block[2].rstrip())
        follows = terminal is not None
    return found


def _commands(line: int, block: str) -> Iterator[Step]:
    command, expected, began = "", "", line
    for number, text in enumerate(block.splitlines(keepends=True), line):
        if text.startswith("$ "):
            if command:
                yield Step(began, command, expected.rstrip())
            command, expected, began = text[2:].rstrip("\n"), "", number
        else:
            expected += text
    if command:
        yield Step(began, command, expected.rstrip())


def _pattern(expected: str) -> str:
    lines = (r"(?:.*\n)*?" if line == _ANYTHING else _one_line(line) + "\n" for line in expected.splitlines())
    return "".join(lines).removesuffix("\n")


def _one_line(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.rstrip().split(_ANYTHING)) + " *"
