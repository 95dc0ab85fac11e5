"""Findings: the lines of `ccfs-worker check`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict on one thing that was checked.

    Attributes:
        name: What was checked, as the operator knows it.
        ok: Whether the worker can work with it.
        detail: What was found, as one line.
        remedy: What to do, as one line. Of a good verdict it makes a warning; of a bad one it may be empty,
            when `detail` says it.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def fine(name: str, detail: str) -> Finding:
    """A good verdict."""
    return Finding(name=name, ok=True, detail=detail)


def doubtful(name: str, detail: str, remedy: str) -> Finding:
    """A good verdict with a warning: the worker can work with it, and it is not as it should be."""
    return Finding(name=name, ok=True, detail=detail, remedy=remedy)


def wrong(name: str, detail: str, remedy: str) -> Finding:
    """A bad verdict, with what to do."""
    return Finding(name=name, ok=False, detail=detail, remedy=remedy)
