"""The help: made of the commands' docstrings, with flags shown as flags."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer
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


def group(name: str, about: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """Make a command that has commands of its own.

    Args:
        name: What it is called.
        about: What it is for.
        commands: By name, its commands.
    """
    made = typer.Typer(
        name=name,
        cls=CommandGroup,
        add_completion=False,
        help=about,
        no_args_is_help=True,
        rich_markup_mode="rich",
    )
    for each, command in commands.items():
        made.command(each, cls=Command, help=help_of(command))(command)
    return made


def help_of(command: Callable[..., object]) -> str:
    """Give a docstring with each paragraph on one line, for the terminal to break; examples stay."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(text if "\n " in text else text.replace("\n", " ") for text in paragraphs)
