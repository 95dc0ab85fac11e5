"""The help: made of the commands' docstrings, with flags shown as flags."""

import inspect
from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose help shows no type beside a flag."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - its class is none of typer's public ones
        """Implements `TyperCommand`."""
        return with_plain_flags(super().get_params(ctx))


class CommandGroup(TyperGroup):
    """A group of commands whose help shows no type beside a flag."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - its class is none of typer's public ones
        """Implements `TyperGroup`."""
        return with_plain_flags(super().get_params(ctx))


def with_plain_flags(params: list[Any]) -> list[Any]:
    """Have typer (0.29) write nothing where it would write `<bool>`."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


def help_of(command: Callable[..., object]) -> str:
    """Give a docstring with each paragraph on one line, for the terminal to break; examples stay."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(text if "\n " in text else text.replace("\n", " ") for text in paragraphs)
