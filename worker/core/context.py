"""What goes with a task without being handed on: its trace, the fields of its log lines, its progress."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from worker.core.progress import Progress
from worker.core.spans import TraceSpan, Untraced
from worker.core.trace import continue_trace, random_hex

_OUTSIDE = Untraced(continue_trace(None, random_hex))

SPAN: ContextVar[TraceSpan] = ContextVar("span", default=_OUTSIDE)
"""The part of a trace that the current task is in; it inherits that of the task that started it."""

LOG_FIELDS: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=MappingProxyType({}))
"""Fields that every log line bears now: those of the job at hand."""

PROGRESS: ContextVar[Progress] = ContextVar("progress", default=Progress())  # noqa: B039 - one that nobody reads
"""Where the current download notes how far it has come."""
