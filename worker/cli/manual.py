"""The help texts: made of the commands' docstrings."""

import inspect
from collections.abc import Callable


def help_of(command: Callable[..., object]) -> str:
    """Give a docstring with each paragraph on one line, for the terminal to break; examples stay."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(text if "\n " in text else text.replace("\n", " ") for text in paragraphs)
