"""Which of the messages in a queue a command is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import typer

LONG_AGO = datetime.fromtimestamp(0, UTC)
"""Stands for an unknown time where messages are put in order."""


class Facts(NamedTuple):
    """What a message is selected by.

    Attributes:
        job_id: Its job.
        code: The error code for which it lies there; may be empty.
        app_id: Its account, if that could be read.
        when: Since when it lies there; None when that was not recorded.
    """

    job_id: str
    code: str
    app_id: str | None
    when: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which messages are meant; what is empty selects all."""

    job_ids: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    apps: frozenset[str] = frozenset()
    since: datetime | None = None
    before: datetime | None = None

    @classmethod
    def of(
        cls,
        *,
        job_ids: Sequence[str] | None = None,
        codes: Sequence[str] | None,
        apps: Sequence[str] | None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> "Selection":
        """Make a selection of a command's options."""
        return cls(
            job_ids=frozenset(job_ids or ()),
            codes=frozenset(codes or ()),
            apps=frozenset(apps or ()),
            since=since,
            before=before,
        )

    def has(self, facts: Facts) -> bool:
        """Whether a message is meant. One of an unknown time is not, where times are selected."""
        when = facts.when
        return (
            (not self.job_ids or facts.job_id in self.job_ids)
            and (not self.codes or facts.code in self.codes)
            and (not self.apps or facts.app_id in self.apps)
            and (self.since is None or (when is not None and when >= self.since))
            and (self.before is None or (when is not None and when < self.before))
        )

    def require_meant(self, options: str, *, everything: bool) -> None:
        """Refuse to select all messages without `--all`, and a part of them with it.

        Args:
            options: The options that select, for the error.
            everything: Whether `--all` was given.

        Raises:
            typer.BadParameter: Nothing was selected, or a part and everything.
        """
        if everything != (self == Selection()):
            raise typer.BadParameter(f"say which: JOB_IDs, {options}, or else --all")
